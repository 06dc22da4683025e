"""How the detector compares with YuNet: faces found, landmarks, false alarms, what a classifier
makes of them, and time.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Optional

import numpy as np
from tqdm import tqdm

from gender_edge import Classifier, evaluation, images
from gender_edge.faces import Detector, Faces
from gender_edge.faces.central import face_in
from gender_edge.measures import balanced, proportion
from gender_edge.samples import Sample
from gender_edge.tracks import overlaps

from .scenes import SHAPES, Faced, scene

SIZES = {"24 to 32": (24, 32), "32 to 64": (32, 64), "64 and more": (64, np.inf)}  # px of the frame
FOUND = 0.5  # intersection over union with the reference's box
TOUCHED = 0.3  # below it with every known face, an answer is a false alarm
CAMERA = 2.0  # 640 x 480, as many cameras give
ROUNDS = 30


@dataclass(frozen=True)
class Frame:
    """A frame, and the boxes (N, 4) of all faces that were put into it, if that is known."""

    pixels: np.ndarray
    truth: Optional[np.ndarray] = None


def generated(faced: Faced, count: int, seed: int) -> Iterator[Frame]:
    """Frames of 640 x 480 with pasted faces, the same for the same seed; boxes end at the edges."""
    for number in range(count):
        rng = np.random.default_rng((seed, number))
        drawn = scene(faced, SHAPES[0], rng, CAMERA, shrink=False)
        low = np.maximum(drawn.boxes[:, :2], 0)
        high = np.minimum(drawn.boxes[:, :2] + drawn.boxes[:, 2:], drawn.frame.shape[1::-1])
        yield Frame(drawn.frame, np.concatenate([low, high - low], 1))


def pictures(samples: Sequence[Sample]) -> Iterator[Frame]:
    """Labelled pictures as frames."""
    for sample in samples:
        yield Frame(images.decode(sample.read(), sample.name))


def compare(own: Detector, reference: Detector, frames: Iterable[Frame]) -> dict[str, Any]:
    """What a detector finds of what the reference finds.

    Where the truth is known, the reference's false alarms are no faces to be found.

    Returns:
        `frames`; `false_alarms` and those of the reference, a frame (without truth, whatever the
        other does not find counts); `found_of_all`, the share that is found of all that the
        reference says, false alarms too; and by size of the reference's faces `faces`, `found`
        (share with interval) and `landmark_error` (mean distance in units of the distance between
        the reference's eyes).
    """
    rows: list[tuple[float, bool, float, bool]] = []
    alarms, count = np.zeros(2), 0
    for frame in tqdm(frames, "frames", disable=None):
        ours, theirs = own(frame.pixels), reference(frame.pixels)
        rows += _matched(ours, theirs, _real(theirs, frame))
        for number, (said, other) in enumerate(((ours, theirs), (theirs, ours))):
            known = other.boxes if frame.truth is None else frame.truth
            alarms[number] += (~(overlaps(known, said.boxes) >= TOUCHED).any(0)).sum()
        count += 1
    sides, found, errors, real = np.array(rows, np.float64).reshape(-1, 4).T
    hit, face = found.astype(bool), real.astype(bool)
    smallest = min(low for low, _ in SIZES.values())
    sizes = {name: face & (sides >= low) & (sides < high) for name, (low, high) in SIZES.items()}
    return {
        "frames": count,
        "false_alarms": float(alarms[0]) / max(1, count),
        "false_alarms_reference": float(alarms[1]) / max(1, count),
        "found_of_all": proportion(hit[sides >= smallest]),
        "sizes": {
            name: {
                "faces": int(members.sum()),
                "found": proportion(hit[members]),
                "landmark_error": _mean(errors[members & hit]),
            }
            for name, members in {"all": face & (sides >= smallest), **sizes}.items()
        },
    }


def _real(said: Faces, frame: Frame) -> np.ndarray:
    """Which answers are of faces, bool (N,): all where the truth is not known."""
    if frame.truth is None:
        return np.ones(len(said), bool)
    return np.asarray((overlaps(said.boxes, frame.truth) >= TOUCHED).any(1))


def _matched(
    ours: Faces, theirs: Faces, real: np.ndarray
) -> Iterator[tuple[float, bool, float, bool]]:
    """Side, whether it is found, landmark error (NaN where not), and whether it is one, of each of
    their faces.
    """
    assert theirs.landmarks is not None
    shared = overlaps(theirs.boxes, ours.boxes)
    for i, (box, points) in enumerate(zip(theirs.boxes, theirs.landmarks)):
        error, best = np.nan, int(shared[i].argmax()) if len(ours) else 0
        found = bool(len(ours) and shared[i, best] >= FOUND)
        if found and ours.landmarks is not None:
            distance = np.linalg.norm(ours.landmarks[best] - points, axis=1).mean()
            error = distance / max(1e-6, np.linalg.norm(points[1] - points[0]))
        yield float(np.sqrt(box[2] * box[3])), found, float(error), bool(real[i])


def _mean(values: np.ndarray) -> Optional[float]:
    return float(values.mean()) if len(values) else None


def least_score(
    own: Detector, reference: Detector, frames: Iterable[Frame], share: float
) -> tuple[float, float]:
    """The highest score at which a detector still finds a share of the reference's faces.

    Args:
        own: with a minimum score near zero.

    Returns:
        That score, and the share that is found at any score.
    """
    smallest = min(low for low, _ in SIZES.values())
    best = []
    for frame in frames:
        ours, said = own(frame.pixels), reference(frame.pixels)
        theirs = said.boxes[_real(said, frame)]
        theirs = theirs[np.sqrt(theirs[:, 2] * theirs[:, 3]) >= smallest]
        best += np.max((overlaps(theirs, ours.boxes) >= FOUND) * ours.scores, 1, initial=0).tolist()
    scores = np.array(best)
    if not len(scores):
        return 0.5, 0.0
    return float(np.quantile(scores, 1 - share, method="lower")), float((scores > 0).mean())


def aligned(
    classifier: Classifier, detectors: Mapping[str, Detector], samples: Sequence[Sample]
) -> dict[str, Any]:
    """Balanced accuracy of a classifier on labelled pictures cut by each detector's landmarks, by
    detector; a picture in which one finds no face is used whole.
    """
    result = {}
    for name, detector in detectors.items():
        cut, lost = [], 0
        for sample in tqdm(samples, f"faces by {name}", disable=None):
            face = face_in(images.decode(sample.read(), sample.name), detector)
            lost += face is None
            box, points = face or (None, None)
            cut.append(replace(sample, box=box, landmarks=points))
        outcome = evaluation.classify(classifier, cut)
        result[name] = {**balanced(outcome.right, outcome.truth), "lost": lost}
    return result


def latency(detectors: Mapping[str, Detector], frames: Sequence[Frame]) -> dict[str, Any]:
    """Median time of a frame in ms by detector, and how many times the first one's each takes.

    The detectors take turns frame by frame, so that a noisy moment hits all alike. Only on an idle
    machine does it mean anything.
    """
    times: dict[str, list[float]] = {name: [] for name in detectors}
    for turn in range(ROUNDS + 1):
        for frame in frames:
            for name, detector in detectors.items():
                begun = time.perf_counter()
                detector(frame.pixels)
                if turn:  # the first round warms up
                    times[name].append(1e3 * (time.perf_counter() - begun))
    medians = {name: float(np.median(own)) for name, own in times.items()}
    first = next(iter(medians.values()))
    return {name: {"ms": value, "times": value / first} for name, value in medians.items()}
