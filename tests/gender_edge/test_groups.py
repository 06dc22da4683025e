from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from gender_edge.groups import SMALLEST_GROUP, groups, worst, worst_judged
from gender_edge.samples import Sample


def _rows(*wanted: tuple[str, int, int, float], age: float | None = None) -> list[dict[str, Any]]:
    """Of ethnicities: so many women and men, and the share of right answers about each."""
    samples, right = [], []
    for ethnicity, women, men, share in wanted:
        for label, count in (("female", women), ("male", men)):
            samples += [Sample(Path("a"), label, ethnicity=ethnicity, age=age)] * count
            right += (np.arange(count) < share * count).tolist()
    truth = np.array([s.label == "female" for s in samples])
    return groups(samples, np.array(right), truth)


def test_the_worst_group_has_enough_of_both_labels() -> None:
    """Of a man among women one answer would decide."""
    rows = _rows(("A", 30, 30, 0.9), ("B", 60, SMALLEST_GROUP - 1, 0.1), ("C", 40, 20, 0.5))
    found = worst(rows)
    assert found is not None and found["group"] == "ethnicity C"
    assert worst(_rows(("B", 60, 1, 0.1))) is None


def test_the_worst_of_sets_and_the_worst_adults() -> None:
    sets = {"first": {"groups": _rows(("A", 30, 30, 0.9), age=30)}, "no groups": {}}
    sets["second"] = {"groups": _rows(("A", 30, 30, 0.6), ("B", 30, 30, 0.8), age=30)}
    found = worst_judged(sets, adults=True)
    assert found is not None
    assert (found["set"], found["group"]) == ("second", "adults, A")
    assert found["balanced_accuracy"]["value"] == 0.6
    assert worst_judged({"no groups": {}}) is None
