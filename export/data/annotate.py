"""Find the face in every labelled picture once, so that training can cut it under the crop rule.

The detector is a YuNet ONNX file that the user names (OpenCV's FaceDetectorYN runs it). Pictures
in which it finds nothing keep no box: they are then used whole, as a face crop, and counted.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Optional

import cv2
import numpy as np
from tqdm import tqdm

from gender_edge import cropping, images
from gender_edge.errors import DataError, ImageError
from gender_edge.faces import Detector, YuNet
from gender_edge.samples import Sample
from gender_edge.spec import CropRule

DETECTION_SIDE = 320  # px, of the padded picture
PADDING = 0.25  # of the longer side: the detector misses faces that fill the picture
THRESHOLDS = (0.6, 0.3)  # scores; the second only where the first finds nothing

Points = tuple[tuple[float, float], ...]
Face = tuple[tuple[float, ...], Optional[Points]]
_detector: Optional[Detector] = None


def annotate(samples: list[Sample], detector: Path, workers: int = 1) -> list[Sample]:
    """Samples with box and landmarks filled in where a face was found.

    Raises:
        DataError: the detector file is missing.
        ModelError: it is not YuNet.
    """
    if not detector.is_file():
        raise DataError(f"{detector}: no such detector; give a YuNet ONNX file with --detector")
    _yunet(str(detector))  # an error here rather than in every process
    spawn = get_context("spawn")  # a fork would copy torch's threads in an unknown state
    workers = max(1, workers)
    with ProcessPoolExecutor(workers, spawn, initializer=_open, initargs=(str(detector),)) as pool:
        faces = pool.map(_find, samples, chunksize=64)
        bar = tqdm(zip(samples, faces), total=len(samples), desc="faces", disable=None)
        return [replace(s, box=f[0], landmarks=f[1]) if f else s for s, f in bar]


def _open(detector: str) -> None:
    global _detector
    cv2.setNumThreads(1)
    _detector = _yunet(detector)


def _yunet(path: str) -> YuNet:
    return YuNet(path, side=DETECTION_SIDE, minimum=min(THRESHOLDS))


def _find(sample: Sample) -> Optional[Face]:
    assert _detector is not None
    return face_in(images.decode(sample.read(), sample.name), _detector)


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
