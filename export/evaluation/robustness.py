"""Accuracy on pictures as bad cameras, dim rooms and masks make them, and by other boxes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Optional

import cv2
import numpy as np

from gender_edge import evaluation, images, measures
from gender_edge.classifier import Classifier
from gender_edge.errors import DataError
from gender_edge.samples import Sample
from gender_edge.spec import CropRule

from ..data.augment import face_mask, inside, onto, scaled

FACES = 1000  # of each set, evenly taken
# A crop, one of a face with the other label, chance.
Alter = Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]


def _jpeg(crop: np.ndarray, *_: object) -> np.ndarray:
    coded = cv2.imencode(".jpg", crop, [cv2.IMWRITE_JPEG_QUALITY, 30])[1]
    return np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR))


def _blur(crop: np.ndarray, *_: object) -> np.ndarray:
    return cv2.GaussianBlur(crop, (0, 0), crop.shape[0] / 40)


def _noise(crop: np.ndarray, _: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.clip(crop + rng.normal(0, 15, crop.shape), 0, 255).astype(np.uint8)


def _low_light(crop: np.ndarray, _: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A sixth of the light, counted as photons, and what the camera's gain makes of it."""
    return np.clip(rng.poisson(crop / 6.0) * 4, 0, 255).astype(np.uint8)


def _few_pixels(crop: np.ndarray, *_: object) -> np.ndarray:
    small = cv2.resize(crop, (24, 24), interpolation=cv2.INTER_AREA)
    return cv2.resize(small, crop.shape[1::-1], interpolation=cv2.INTER_LINEAR)


def _grey(crop: np.ndarray, *_: object) -> np.ndarray:
    return cv2.cvtColor(cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)


def _masked(crop: np.ndarray, *_: object) -> np.ndarray:
    """Everything below the eyes is covered, as by a mask."""
    crop = crop.copy()
    crop[crop.shape[0] // 2 :] = (200, 170, 140)
    return crop


def _other_hair(crop: np.ndarray, other: np.ndarray, _: np.random.Generator) -> np.ndarray:
    """Hair and collar of somebody with the other label: does the face decide?"""
    return onto(crop, other, face_mask(crop.shape[0], CropRule()))


CONDITIONS: Mapping[str, Alter] = {
    "as it is": lambda crop, *_: crop,
    "JPEG at quality 30": _jpeg,
    "blur": _blur,
    "noise": _noise,
    "low light": _low_light,
    "24 pixels": _few_pixels,
    "greyscale": _grey,
    "lower half covered": _masked,
    "hair of the other label": _other_hair,
}
# How much larger than the set's own a box is, and whether only what it holds is given, as a crop:
# detectors and people who cut faces out differ by about that much.
BOXES: Mapping[str, tuple[float, bool]] = {
    "box of 80 %": (0.8, False),
    "its own box": (1.0, False),
    "box of 125 %": (1.25, False),
    "box of 150 %": (1.5, False),
    "cut out by its own box": (1.0, True),
    "cut out by a box of 125 %": (1.25, True),
}


def measure(classifier: Classifier, sets: Sequence[Sequence[Sample]]) -> dict[str, dict[str, Any]]:
    """Under each condition the means over sets, with intervals: balanced accuracy, women right, men
    right.

    Each set counts the same. Crops are altered after they were cut, so that the framing is that
    of the untouched picture.
    """
    cut = [_cut(classifier, samples) for samples in sets]
    found = {}
    for name, alter in CONDITIONS.items():
        rng = np.random.default_rng(0)
        found[name] = _means(classifier, [_altered(*part, alter, rng) for part in cut])
    for name, box in BOXES.items():
        found[name] = _means(classifier, [_cut(classifier, samples, box) for samples in sets])
    return found


def _altered(
    crops: np.ndarray, truth: np.ndarray, alter: Alter, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    others = crops[_of_the_other_label(truth, rng)]
    return np.stack([alter(*pair, rng) for pair in zip(crops, others)]), truth


def _means(
    classifier: Classifier, cut: Sequence[tuple[np.ndarray, np.ndarray]]
) -> dict[str, dict[str, float]]:
    """What `measure` returns of one condition, from the crops and the truth of every set."""
    rows = []
    for crops, truth in cut:
        right = (_female(classifier, crops) >= 0.5) == truth
        rows.append(
            {
                "balanced_accuracy": measures.balanced(right, truth),
                "women": measures.proportion(right[truth]),
                "men": measures.proportion(right[~truth]),
            }
        )
    return {key: measures.mean([row[key] for row in rows]) for key in rows[0]}


def _of_the_other_label(truth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """For each face the number of a random one with the other label, int64 (N,)."""
    members = {label: np.flatnonzero(truth != label) for label in (False, True)}
    if not all(map(len, members.values())):
        raise DataError("robustness needs faces of both labels in every test set")
    return np.array([rng.choice(members[bool(own)]) for own in truth])


def _cut(
    classifier: Classifier, samples: Sequence[Sample], by: Optional[tuple[float, bool]] = None
) -> tuple[np.ndarray, np.ndarray]:
    """Crops and whether each is a woman's: aligned, or by one of `BOXES`."""
    chosen = np.linspace(0, len(samples) - 1, min(FACES, len(samples))).astype(int)
    crops, truth = [], []
    for sample in (samples[i] for i in chosen):
        box, landmarks = evaluation.guides(sample, "landmarks" if by is None else "box")
        image = images.decode(sample.read(), sample.name)
        if by is not None and box is not None:
            box = scaled(box, by[0], image.shape)
            image, box = (inside(image, box), None) if by[1] else (image, box)
        crops.append(classifier.crop(image, box=box, landmarks=landmarks))
        truth.append(sample.label == "female")
    return np.stack(crops), np.array(truth)


def _female(classifier: Classifier, crops: np.ndarray) -> np.ndarray:
    return classifier.probabilities(crops)[:, classifier.spec.labels.index("female")]
