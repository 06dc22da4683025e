from __future__ import annotations

import numpy as np
import pytest

from gender_edge import measures


def test_wilson_interval_by_the_book() -> None:
    """81 of 263: Newcombe (1998), table I, method 3 gives 0.2553 to 0.3662."""
    figure = measures.proportion(np.arange(263) < 81)
    assert figure["value"] == pytest.approx(81 / 263)
    assert figure["low"] == pytest.approx(0.2553, abs=1e-4)
    assert figure["high"] == pytest.approx(0.3662, abs=1e-4)


def test_balanced_accuracy_weighs_labels_alike() -> None:
    truth = np.array([True] * 10 + [False] * 90)
    right = np.array([False] * 10 + [True] * 90)
    assert measures.balanced(right, truth)["value"] == 0.5
    assert measures.balanced(right[:10], truth[:10])["value"] is None


def test_area_under_curve_counts_pairs() -> None:
    rng = np.random.default_rng(0)
    score, truth = rng.integers(0, 8, 60) / 8, rng.random(60) < 0.4
    pairs = score[truth][:, None] - score[~truth][None]
    expected = (pairs > 0).mean() + (pairs == 0).mean() / 2
    assert measures.area_under_curve(score, truth) == pytest.approx(expected)
    assert measures.area_under_curve(score, np.ones(60, bool)) is None


def test_calibration_error() -> None:
    confidence = np.full(1000, 0.8)
    found = measures.calibration_error(confidence, np.arange(1000) < 800)
    assert found["value"] == pytest.approx(0) and found["low"] == 0 < found["high"] < 0.05
    assert measures.calibration_error(confidence, np.ones(1000, bool))["value"] == (
        pytest.approx(0.2)
    )


@pytest.mark.parametrize("over", [0.0, 0.1])
def test_the_true_calibration_error_lies_in_its_interval(over: float) -> None:
    """Overconfident by as much, or not at all: the measured error alone is always too large."""
    rng, inside = np.random.default_rng(1), 0
    for _ in range(20):
        confidence = rng.uniform(0.6, 1, 600)
        found = measures.calibration_error(confidence, rng.random(600) < confidence - over)
        assert found["low"] <= found["value"] <= found["high"]
        inside += found["low"] <= over <= found["high"]
    assert inside >= 15


def test_risk_falls_with_coverage_when_confidence_means_something() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.5, 1, 20_000)
    points = measures.risk_coverage(confidence, rng.random(20_000) < confidence)
    risks = [p["risk"] for p in points]
    assert risks == sorted(risks)
    assert all(p["low"] < p["risk"] < p["high"] < p["low"] + 0.02 for p in points)
    assert risks[-1] == pytest.approx(0.25, abs=0.02)
