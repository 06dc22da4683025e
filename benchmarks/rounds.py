"""Rounds: every subject is timed for a moment, then all again, so that a noisy machine hits all
alike; and what several rounds say together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

TIMES = ("p50_ms", "p90_ms", "p99_ms", "faces_per_s")
WIDE = 0.15  # of the median: rounds that differ more do not rank anything


def together(rounds: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Medians over rounds, and the smallest and largest round as their interval.

    Of five rounds that interval covers the true median in 94 of 100 cases (order statistics, no
    distribution assumed), of three in 75.
    """
    figures: dict[str, Any] = {key: float(np.median([r[key] for r in rounds])) for key in TIMES}
    figures["runs"] = int(sum(r["runs"] for r in rounds))
    figures["interval"] = {
        key: [float(min(r[key] for r in rounds)), float(max(r[key] for r in rounds))]
        for key in TIMES
    }
    return figures


def spread(row: Mapping[str, Any], key: str = "p50_ms") -> float:
    """Width of a figure's interval as a share of the figure."""
    low, high = row["interval"][key]
    return float((high - low) / row[key])


def too_wide(variants: Iterable[Mapping[str, Any]]) -> list[str]:
    """What was measured too unsteadily to be ranked: `name, engine, batch`."""
    return [
        f"{v['name']} on {v['engine']}, batch {row['batch']} ({100 * spread(row):.0f} %)"
        for v in variants
        for row in v.get("batches", ())
        if "interval" in row and spread(row) > WIDE
    ]
