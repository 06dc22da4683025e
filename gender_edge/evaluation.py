"""How right a classifier is on labelled faces: by label, by group, calibrated or not.

Runs on the device itself, through `Classifier`, on numpy alone. All figures come with a 95 %
interval, because a difference inside it is no difference.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Callable, Optional

import numpy as np

from . import images
from .classifier import Classifier
from .errors import DataError, ImageError
from .labelled import LABELS, Sample

Z = 1.96  # standard normal quantile of a two-sided 95 % interval
ECE_BINS = 15
RESAMPLES = 500  # of the faces, for the interval of the calibration error
AGE_BANDS = ((0, 3), (4, 12), (13, 19), (20, 39), (40, 59), (60, 200))
FRAMINGS = ("landmarks", "box", "whole")
ADULTS = "adults, "  # how the names of their groups begin
CHILD, ADULT = 13, 18  # years: below the first, from the second on
SMALLEST_GROUP = 20  # faces; figures of fewer say nothing
SMALLEST_COMPARED = 50  # faces of one label in a group, to be compared with others


@dataclass(frozen=True)
class Outcome:
    """What a classifier said of labelled faces.

    Attributes:
        samples: those that could be read, N of them.
        female: float64 (N,), P(female).
        decided: bool (N,), whether a label was given rather than an abstention.
        failures: (name, reason) of those that could not be read.
        framing: what they were cut by where they have it; see `classify`.
    """

    samples: list[Sample]
    female: np.ndarray
    decided: np.ndarray
    failures: list[tuple[str, str]]
    framing: str = FRAMINGS[0]

    @property
    def truth(self) -> np.ndarray:
        """Bool (N,), whether the data set's label is female."""
        return np.array([s.label == "female" for s in self.samples])


def classify(
    classifier: Classifier,
    samples: Sequence[Sample],
    *,
    framing: str = "landmarks",
    progress: Optional[Callable[[Iterable[int]], Iterable[int]]] = None,
) -> Outcome:
    """Classify samples under the model's crop rule.

    Args:
        framing: what to go by where a sample has it: "landmarks" (else its box, else the whole
            picture), "box" (else the whole picture) or "whole" (every picture is a face crop).
        progress: wraps the iteration over batches (tqdm fits).

    Raises:
        DataError: not one sample could be read.
    """
    if framing not in FRAMINGS:
        raise DataError(f"framing={framing!r}: expected one of {', '.join(FRAMINGS)}")
    step = classifier.batch_size
    kept: list[Sample] = []
    female: list[float] = []
    decided: list[bool] = []
    failures: list[tuple[str, str]] = []
    starts: Iterable[int] = range(0, len(samples), step)
    for start in progress(starts) if progress else starts:
        crops = []
        for sample in samples[start : start + step]:
            try:
                crops.append(_crop(classifier, sample, framing))
                kept.append(sample)
            except (ImageError, DataError) as error:
                failures.append((sample.name, str(error)))
        predictions = classifier.predict(np.stack(crops)) if crops else []
        female += [p.female for p in predictions]
        decided += [p.label is not None for p in predictions]
    if not kept:
        raise DataError(f"none of {len(samples)} pictures could be read; first: {failures[:1]}")
    return Outcome(kept, np.array(female), np.array(decided), failures, framing)


def _crop(classifier: Classifier, sample: Sample, framing: str) -> np.ndarray:
    image = images.decode(sample.read(), sample.name)
    box, landmarks = guides(sample, framing)
    return classifier.crop(image, box=box, landmarks=landmarks)


def guides(
    sample: Sample, framing: str
) -> tuple[Optional[tuple[float, ...]], Optional[np.ndarray]]:
    """Box and landmarks that a crop of this sample goes by under one framing."""
    landmarks = sample.landmark_array() if framing == "landmarks" else None
    return (None if framing == "whole" else sample.box), landmarks


def framed(samples: Iterable[Sample], framing: str) -> dict[str, int]:
    """How many samples a crop went by landmarks, by a box, and was the whole picture of."""
    counts = dict.fromkeys(FRAMINGS, 0)
    for sample in samples:
        box, landmarks = guides(sample, framing)
        found = "whole" if box is None else "box"
        counts["landmarks" if landmarks is not None else found] += 1
    return counts


def framed_text(counts: Mapping[str, int]) -> str:
    """Those counts for people."""
    words = {"landmarks": "by landmarks", "box": "by their boxes", "whole": "as whole pictures"}
    return ", ".join(f"{count} {words[how]}" for how, count in counts.items() if count)


def report(outcome: Outcome) -> dict[str, Any]:
    """All figures of an outcome as plain numbers, ready for JSON; shares are 0 to 1."""
    truth, female = outcome.truth, outcome.female
    right = (female >= 0.5) == truth
    confidence = np.maximum(female, 1 - female)
    decided = outcome.decided
    rows = groups(outcome.samples, right, truth)
    return {
        "faces": len(truth),
        "failures": len(outcome.failures),
        "framed": framed(outcome.samples, outcome.framing),
        "female": int(truth.sum()),
        "balanced_accuracy": balanced(right, truth),
        "accuracy": proportion(right),
        "female_right": proportion(right[truth]),
        "male_right": proportion(right[~truth]),
        "loss": cross_entropy(female, truth),
        "auc": area_under_curve(female, truth),
        "ece": calibration_error(confidence, right),
        "reliability": reliability(confidence, right),
        "coverage": float(decided.mean()),
        "accuracy_decided": proportion(right[decided]),
        "risk_coverage": risk_coverage(confidence, right),
        "confusion": [
            [int((truth & right).sum()), int((truth & ~right).sum())],
            [int((~truth & ~right).sum()), int((~truth & right).sum())],
        ],
        "groups": rows,
        "adult_gap": adult_gap(rows),
    }


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
    value = float(np.mean([p["value"] for p in parts]))
    down = float(np.hypot(*(p["value"] - p["low"] for p in parts))) / 2
    up = float(np.hypot(*(p["high"] - p["value"] for p in parts))) / 2
    return {"value": value, "low": value - down, "high": value + up, "n": len(right)}


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


def adult_gap(rows: Sequence[dict[str, Any]]) -> Optional[dict[str, Any]]:
    """What lies between the adults that are judged best and worst, each an ethnicity and a label.

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
        for row in figures.get("groups") or ()
        if min(row[f"{label}_right"]["n"] for label in LABELS) >= SMALLEST_GROUP
        and (not adults or _of_adults(row["group"]))
    ]
    return min(found, key=lambda row: row["balanced_accuracy"]["value"], default=None)


def _of_adults(group: str) -> bool:
    age = re.match(r"age (\d+)", group)
    return int(age[1]) >= ADULT if age else group.startswith(ADULTS)


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
