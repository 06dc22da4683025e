"""Find the face in every labelled picture once, so that training can cut it under the crop rule.

The detector is a YuNet ONNX file that the user names (OpenCV's FaceDetectorYN runs it). Pictures
in which it finds nothing keep no box: they are then used whole, as a face crop, and counted.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Optional

import cv2
from tqdm import tqdm

from gender_edge.errors import DataError
from gender_edge.faces import Detector
from gender_edge.faces.central import central_detector, located
from gender_edge.samples import Sample

_detector: Optional[Detector] = None


def annotate(samples: list[Sample], detector: Path, workers: int = 1) -> list[Sample]:
    """Samples with box and landmarks filled in where a face was found.

    Raises:
        DataError: the detector file is missing.
        ModelError: it is not YuNet.
    """
    if not detector.is_file():
        raise DataError(f"{detector}: no such detector; give a YuNet ONNX file with --detector")
    central_detector(str(detector))  # an error here rather than in every process
    spawn = get_context("spawn")  # a fork would copy torch's threads in an unknown state
    workers = max(1, workers)
    with ProcessPoolExecutor(workers, spawn, initializer=_open, initargs=(str(detector),)) as pool:
        found = pool.map(_located, samples, chunksize=64)
        return list(tqdm(found, total=len(samples), desc="faces", disable=None))


def _open(detector: str) -> None:
    global _detector
    cv2.setNumThreads(1)
    _detector = central_detector(detector)


def _located(sample: Sample) -> Sample:
    assert _detector is not None
    return located(sample, _detector)
