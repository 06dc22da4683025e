"""The face that a labelled picture is of: the large one near its middle."""

from __future__ import annotations

from dataclasses import replace
from typing import Optional

import cv2
import numpy as np

from .. import cropping, images
from ..errors import DataError, ImageError
from ..samples import Sample
from ..spec import CropRule
from .found import Detector
from .opencv import YuNet

DETECTION_SIDE = 320  # px, of the padded picture
PADDING = 0.25  # of the longer side: the detector misses faces that fill the picture
THRESHOLDS = (0.6, 0.3)  # scores; the second only where the first finds nothing

Points = tuple[tuple[float, float], ...]
Face = tuple[tuple[float, ...], Optional[Points]]


def central_detector(source: str) -> YuNet:
    """YuNet as `face_in` wants it, from its ONNX file.

    Raises:
        ModelError: the file is missing, or not YuNet.
    """
    return YuNet(source, side=DETECTION_SIDE, minimum=min(THRESHOLDS))


def unknown(sample: Sample) -> bool:
    """Whether nobody has said where the face is."""
    return sample.box is None and sample.landmarks is None


def located(sample: Sample, detector: Detector) -> Sample:
    """A sample with box and landmarks found where it has neither; as it is if there is no face, or
    the picture cannot be read, which whoever reads it next is told.
    """
    if not unknown(sample):
        return sample
    try:
        face = face_in(images.decode(sample.read(), sample.name), detector)
    except (DataError, ImageError):
        return sample
    return replace(sample, box=face[0], landmarks=face[1]) if face else sample


def face_in(image: np.ndarray, detector: Detector) -> Optional[Face]:
    """Box and five landmarks of the large, central face of a picture, in its pixels.

    Args:
        detector: one that gives landmarks; answers below the first of `THRESHOLDS` count only
            where there are no others.
    """
    height, width = image.shape[:2]
    pad = int(PADDING * max(height, width))
    padded = cv2.copyMakeBorder(image, pad, pad, pad, pad, cv2.BORDER_CONSTANT, value=(127,) * 3)
    scale = DETECTION_SIDE / max(padded.shape[:2])
    small = cv2.resize(
        padded,
        None,
        fx=scale,
        fy=scale,
        interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR,
    )
    found = detector(small)
    if not len(found):
        return None
    assert found.landmarks is not None
    boxes = found.boxes.astype(np.float64) / scale - (pad, pad, 0, 0)
    centre = boxes[:, :2] + boxes[:, 2:] / 2
    distance = np.hypot(*(centre - (width / 2, height / 2)).T)
    merit = np.sqrt(boxes[:, 2] * boxes[:, 3]) - distance
    sure = found.scores >= THRESHOLDS[0]
    best = int(np.argmax(np.where(sure | ~sure.any(), merit, -np.inf)))
    points = found.landmarks[best].astype(np.float64) / scale - pad
    return tuple(boxes[best].tolist()), _usable(points)


def _usable(points: np.ndarray) -> Optional[Points]:
    """Landmarks that a face can be aligned by; None of others, whose box is better."""
    try:
        cropping.aligned_matrix(points, CropRule())
    except ImageError:
        return None
    return tuple((float(x), float(y)) for x, y in points)
