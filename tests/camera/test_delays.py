from __future__ import annotations

import numpy as np
import pytest

from gender_edge.delays import Delays


def test_percentiles_are_of_all_delays() -> None:
    """However long ago they were, and within 1 %."""
    rng = np.random.default_rng(0)
    seconds = np.concatenate([[3.0] * 300, np.exp(rng.normal(-4, 1, 20000))])
    delays = Delays()
    assert delays.percentiles() == {"p50_ms": None, "p99_ms": None}
    for own in seconds:
        delays.add(own)
    found = delays.percentiles()
    for share in (50, 99):
        expected = 1e3 * np.percentile(seconds, share)
        assert found[f"p{share}_ms"] == pytest.approx(expected, rel=0.01)


def test_no_delay_is_too_short_or_too_long() -> None:
    delays = Delays()
    for seconds in (0.0, 1e9):
        delays.add(seconds)
    found = delays.percentiles()
    assert found["p50_ms"] == pytest.approx(1e-3, rel=0.01) and found["p99_ms"] > 1e6
