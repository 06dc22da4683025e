"""How long things took, over a whole life and in a few kilobytes."""

from __future__ import annotations

import math
from typing import Optional

import numpy as np

SHORTEST, STEP, BUCKETS = 1e-6, 1.01, 2100  # s; each bucket ends 1 % later: up to 20 minutes


class Delays:
    """Counts of delays in buckets 1 % wide, none forgotten. One thread adds, any may read."""

    def __init__(self) -> None:
        self._counts = [0] * BUCKETS

    def add(self, seconds: float) -> None:
        """Count one delay."""
        bucket = int(math.log(max(seconds, SHORTEST) / SHORTEST, STEP))
        self._counts[min(bucket, BUCKETS - 1)] += 1

    def percentiles(self) -> dict[str, Optional[float]]:
        """`p50_ms` and `p99_ms` of all delays so far, within 1 %; None before the first."""
        up_to = np.cumsum(self._counts)
        if not up_to[-1]:
            return {"p50_ms": None, "p99_ms": None}
        buckets = np.searchsorted(up_to, up_to[-1] * np.array([0.50, 0.99]))
        p50, p99 = 1e3 * SHORTEST * STEP ** (buckets + 0.5)
        return {"p50_ms": float(p50), "p99_ms": float(p99)}
