"""Pictures to time cropping, decoding and detection on: drawn, so that no photograph is needed."""

from __future__ import annotations

import cv2
import numpy as np

from gender_edge.spec import CropRule

from .subjects import Face

WIDTH, HEIGHT, FACE = 640, 480, 112  # px: a camera's frame, and a face's box in it
QUALITY = 90  # of the JPEG file


def frame() -> np.ndarray:
    """A frame as smooth and as grainy as a camera's: uint8 (480, 640, 3), always the same."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(30, 220, (12, 16, 3)).astype(np.float32)
    smooth = cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    return np.clip(smooth + rng.normal(0, 3, smooth.shape), 0, 255).astype(np.uint8)


def faces(image: np.ndarray, count: int) -> list[Face]:
    """Places of faces in a frame: boxes side by side, landmarks as on an upright face."""
    points = np.array(CropRule().landmarks)
    per_row, found = WIDTH // FACE, []
    for number in range(count):
        x = number % per_row * FACE
        y = number // per_row * FACE % (HEIGHT - FACE)
        box = (float(x), float(y), float(FACE), float(FACE))
        found.append(Face(image, box, points * FACE + (x, y)))
    return found


def jpeg(image: np.ndarray) -> bytes:
    """The frame as a camera or an archive would store it."""
    return bytes(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1])
