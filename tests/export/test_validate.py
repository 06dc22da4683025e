from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from export.validate import by_group
from gender_edge.samples import LABELS, Sample


def faces(ages: list[float | None], ethnicity: str | None, count: int) -> list[Sample]:
    """So many women and men of each age."""
    return [
        Sample(Path("face.png"), label, age=age, ethnicity=ethnicity)
        for age in ages
        for label in LABELS
        for _ in range(count)
    ]


def packs(**samples: list[Sample]) -> dict[str, Any]:
    return {name: SimpleNamespace(samples=own) for name, own in samples.items()}


def test_groups_are_told_by_set() -> None:
    known = faces([5, 30], "here", 60) + faces([30], "there", 60)
    nobody = faces([None], None, 60)
    own = np.ones(len(known), bool)
    own[:30] = False  # half of the girls
    own[-60:-54] = False  # six of sixty men elsewhere
    right = {
        "a/landmarks": own,
        "a/whole": np.zeros(len(known), bool),
        "b/landmarks": np.ones(len(nobody), bool),
    }
    assert by_group(right, packs(a=known, b=nobody)) == {
        "a: worst group": 75.0,
        "a: under 13": 75.0,
        "a: adult gap": 10.0,
    }
