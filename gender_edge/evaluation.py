"""How right a classifier is on labelled faces: by label, by group, calibrated or not.

Runs on the device itself, through `Classifier`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Callable, Optional

import numpy as np

from . import images
from .classifier import Classifier
from .errors import ArgumentError, DataError, ImageError
from .groups import adult_gap, groups
from .measures import (
    area_under_curve,
    balanced,
    calibration_error,
    cross_entropy,
    proportion,
    reliability,
    risk_coverage,
)
from .samples import Sample

FRAMINGS = ("landmarks", "box", "whole")


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

    @property
    def right(self) -> np.ndarray:
        """Bool (N,), whether the more probable label is the data set's."""
        return (self.female >= 0.5) == self.truth


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
        ArgumentError: `framing` is another word.
    """
    if framing not in FRAMINGS:
        raise ArgumentError(f"framing={framing!r}: expected one of {', '.join(FRAMINGS)}")
    kept, predictions, failures = answered(
        samples,
        lambda sample: _crop(classifier, sample, framing),
        lambda crops: classifier.predict(np.stack(crops)),
        classifier.batch_size,
        progress,
    )
    female = np.array([p.female for p in predictions])
    decided = np.array([p.label is not None for p in predictions])
    return Outcome(kept, female, decided, failures, framing)


def answered(
    samples: Sequence[Sample],
    cut: Callable[[Sample], Any],
    answer: Callable[[list[Any]], Sequence[Any]],
    step: int,
    progress: Optional[Callable[[Iterable[int]], Iterable[int]]] = None,
) -> tuple[list[Sample], list[Any], list[tuple[str, str]]]:
    """Cut and answer samples, `step` at a time, so that few pictures lie in memory.

    Args:
        cut: makes one input of a sample.
        answer: gives one answer per input.
        progress: as for `classify`.

    Returns:
        The samples that could be read, their answers, and (name, reason) of the others.

    Raises:
        DataError: not one could be read.
    """
    kept: list[Sample] = []
    answers: list[Any] = []
    failures: list[tuple[str, str]] = []
    starts: Iterable[int] = range(0, len(samples), step)
    for start in progress(starts) if progress else starts:
        inputs = []
        for sample in samples[start : start + step]:
            try:
                inputs.append(cut(sample))
                kept.append(sample)
            except (ImageError, DataError) as error:
                failures.append((sample.name, str(error)))
        if inputs:
            answers += answer(inputs)
    if not kept:
        raise DataError(f"none of {len(samples)} pictures could be read; first: {failures[:1]}")
    return kept, answers, failures


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
    """How many samples are cut by landmarks, by their box, and as whole pictures."""
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
    truth, female, right = outcome.truth, outcome.female, outcome.right
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
