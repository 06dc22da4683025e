"""How right answers are by age and by ethnicity, as data sets word them: the groups, who is judged
worst, and what lies between adults.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Optional

import numpy as np

from .measures import balanced, proportion
from .samples import LABELS, Sample

AGE_BANDS = ((0, 3), (4, 12), (13, 19), (20, 39), (40, 59), (60, 200))
ADULTS = "adults, "  # how the names of their groups begin
CHILD, ADULT = 13, 18  # years: below the first, from the second on
SMALLEST_GROUP = 20  # faces; figures of fewer say nothing
SMALLEST_COMPARED = 50  # faces of one label in a group, to be compared with others


def groups(samples: Sequence[Sample], right: np.ndarray, truth: np.ndarray) -> list[dict[str, Any]]:
    """Figures by age band and by ethnicity as the data set words them, and both labels in each."""
    rows = []
    for name, members in group_masks(samples):
        if members.sum() >= SMALLEST_GROUP:
            rows.append(
                {
                    "group": name,
                    "faces": int(members.sum()),
                    "balanced_accuracy": balanced(right[members], truth[members]),
                    "female_right": proportion(right[members & truth]),
                    "male_right": proportion(right[members & ~truth]),
                }
            )
    return rows


def group_masks(samples: Sequence[Sample]) -> Iterable[tuple[str, np.ndarray]]:
    """Groups by age and by ethnicity, and bool (N,) of who is in each; they overlap."""
    ages = np.array([np.nan if s.age is None else s.age for s in samples])
    for low, high in AGE_BANDS:
        name = f"age {low}+" if high >= 200 else f"age {low} to {high}"
        yield name, (ages >= low) & (ages < high + 1)
    yield f"under {CHILD}", ages < CHILD
    words = np.array([s.ethnicity or "" for s in samples])
    for word in sorted(set(words) - {""}):
        yield f"ethnicity {word}", words == word
        yield f"{ADULTS}{word}", (words == word) & (ages >= ADULT)


def adult_gap(rows: Sequence[dict[str, Any]]) -> Optional[dict[str, Any]]:
    """The gap between the adults that are judged best and worst, each an ethnicity and a label.

    Args:
        rows: of `groups`; groups of fewer than `SMALLEST_COMPARED` faces of a label do not count.

    Returns:
        The gap (0 to 1), low and high end of its 95 % interval as if these two groups had been
        named beforehand (Newcombe 1998, of two Wilson intervals), and who is best and worst; None
        where there are not two such groups.
    """
    shares = {
        f"{label} {row['group']}": row[f"{label}_right"]
        for row in rows
        for label in ("female", "male")
        if row["group"].startswith(ADULTS) and row[f"{label}_right"]["n"] >= SMALLEST_COMPARED
    }
    if len(shares) < 2:
        return None
    best, worst = (choose(shares, key=lambda name: shares[name]["value"]) for choose in (max, min))
    more, less = shares[best], shares[worst]
    gap = more["value"] - less["value"]
    down = math.hypot(more["value"] - more["low"], less["high"] - less["value"])
    up = math.hypot(more["high"] - more["value"], less["value"] - less["low"])
    return {"gap": gap, "low": gap - down, "high": gap + up, "best": best, "worst": worst}


def worst_judged(
    sets: Mapping[str, dict[str, Any]], adults: bool = False
) -> Optional[dict[str, Any]]:
    """The people that a model judges worst, in any set that tells ages or ethnicities.

    Args:
        sets: figures by set, as `report` gives them.
        adults: look at groups of adults only.

    Returns:
        `set`, `group` and its `balanced_accuracy` with interval, of groups with `SMALLEST_GROUP`
        faces of either label; None where there is none.
    """
    found = [
        {"set": name, "group": row["group"], "balanced_accuracy": row["balanced_accuracy"]}
        for name, figures in sets.items()
        if (row := worst(figures.get("groups") or (), adults))
    ]
    return min(found, key=lambda row: row["balanced_accuracy"]["value"], default=None)


def worst(rows: Sequence[dict[str, Any]], adults: bool = False) -> Optional[dict[str, Any]]:
    """Of rows as `groups` gives them, that of the least balanced accuracy; see `worst_judged`."""
    told = (
        row
        for row in rows
        if min(row[f"{label}_right"]["n"] for label in LABELS) >= SMALLEST_GROUP
        and (not adults or _of_adults(row["group"]))
    )
    return min(told, key=lambda row: float(row["balanced_accuracy"]["value"]), default=None)


def _of_adults(group: str) -> bool:
    age = re.match(r"age (\d+)", group)
    return int(age[1]) >= ADULT if age else group.startswith(ADULTS)
