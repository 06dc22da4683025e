"""How right answers are, each measure with a 95 % interval, because a difference inside it is no
difference. On numpy alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Optional

import numpy as np

Z = 1.96  # standard normal quantile of a two-sided 95 % interval
ECE_BINS = 15
RESAMPLES = 500  # of the faces, for the interval of the calibration error


def proportion(right: np.ndarray) -> dict[str, Any]:
    """Share of True with its Wilson score interval (Wilson 1927); value None for no cases."""
    count = len(right)
    if not count:
        return {"value": None, "low": None, "high": None, "n": 0}
    share = float(right.mean())
    scale = 1 + Z * Z / count
    centre = (share + Z * Z / (2 * count)) / scale
    half = Z * np.sqrt(share * (1 - share) / count + Z * Z / (4 * count * count)) / scale
    low, high = max(0.0, float(centre - half)), min(1.0, float(centre + half))
    return {"value": share, "low": low, "high": high, "n": count}


def balanced(right: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    """Mean of the two labels' accuracies; its interval adds their Wilson half-widths in quadrature
    (each side on its own, as Newcombe 1998 does for differences).
    """
    parts = [proportion(right[truth]), proportion(right[~truth])]
    if any(p["value"] is None for p in parts):
        return {"value": None, "low": None, "high": None, "n": len(right)}
    return {**mean(parts), "n": len(right)}


def mean(figures: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean of independent figures with intervals: value, low, high; the half-widths add in
    quadrature.
    """
    value = sum(f["value"] for f in figures) / len(figures)
    down = sum((f["value"] - f["low"]) ** 2 for f in figures) ** 0.5 / len(figures)
    up = sum((f["high"] - f["value"]) ** 2 for f in figures) ** 0.5 / len(figures)
    return {"value": value, "low": value - down, "high": value + up}


def cross_entropy(female: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    """Mean -log P(label), natural, with the normal approximation's interval."""
    losses = -np.log(np.clip(np.where(truth, female, 1 - female), 1e-7, 1))
    value, half = float(losses.mean()), float(Z * losses.std() / np.sqrt(len(losses)))
    return {"value": value, "low": value - half, "high": value + half, "n": len(losses)}


def area_under_curve(score: np.ndarray, truth: np.ndarray) -> Optional[float]:
    """Area under the ROC curve by ranks, ties shared (Hanley and McNeil 1982)."""
    positives, negatives = int(truth.sum()), int((~truth).sum())
    if not positives or not negatives:
        return None
    _, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    rank = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return float((rank[truth].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def calibration_error(confidence: np.ndarray, right: np.ndarray) -> dict[str, Any]:
    """Expected calibration error in equal-width bins of confidence (Naeini et al. 2015).

    Its interval is the basic bootstrap's (Davison and Hinkley 1997): resampled faces err by more
    than the true error, as the measured faces do, so the quantiles are reflected at the value, and
    the interval widened to it where it lies outside. It begins at 0 where confidences that are
    exactly right would show such an error too (in more than 2.5 % of draws).
    """
    bins, count, rng = _bins(confidence), len(right), np.random.default_rng(0)

    def error(chosen: Any, right: np.ndarray) -> float:
        return float(np.abs(np.bincount(bins[chosen], (confidence - right)[chosen])).sum() / count)

    value = error(slice(None), right)
    resampled = [error(rng.integers(count, size=count), right) for _ in range(RESAMPLES)]
    exact = [error(slice(None), rng.random(count) < confidence) for _ in range(RESAMPLES)]
    low, high = (2 * value - float(np.quantile(resampled, q)) for q in (0.975, 0.025))
    low = 0.0 if value <= np.quantile(exact, 0.975) else min(value, max(0.0, low))
    return {"value": value, "low": low, "high": max(value, high), "n": count}


def reliability(confidence: np.ndarray, right: np.ndarray) -> list[dict[str, float]]:
    """Mean confidence, share right and share of all faces in each equal-width bin that has any."""
    bins = _bins(confidence)
    return [
        {
            "confidence": float(confidence[bins == b].mean()),
            "right": float(right[bins == b].mean()),
            "share": float((bins == b).mean()),
        }
        for b in np.unique(bins)
    ]


def _bins(confidence: np.ndarray) -> np.ndarray:
    return np.minimum(((confidence - 0.5) * 2 * ECE_BINS).astype(int), ECE_BINS - 1)


def risk_coverage(confidence: np.ndarray, right: np.ndarray) -> list[dict[str, float]]:
    """Error among the most confident share of faces (`risk`, with the low and high end of its
    interval), for shares from one half to all.
    """
    wrong = ~right[np.argsort(-confidence, kind="stable")]
    points = []
    for coverage in (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 1.0):
        risk = proportion(wrong[: max(1, round(coverage * len(wrong)))])
        ends = {"low": risk["low"], "high": risk["high"]}
        points.append({"coverage": coverage, "risk": risk["value"], **ends})
    return points
