"""From a picture to the square uint8 pixels that a network reads: the only place.

The runtime and the workshop both cut faces here, so a network is trained on exactly what it will
be given. Normalisation, layout and grey conversion are not here: they are inside the graph.

A crop is a 2x3 matrix from picture coordinates (pixels) to the unit square of the crop.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Optional

import cv2
import numpy as np

from .errors import ImageError
from .spec import CropRule

FARTHEST = 1e6  # px; coordinates beyond it are of no picture
LEAST_INSIDE = 0.1  # of a face's square; of less, a network would be asked about grey
# What of five landmarks' spread a face explains: at least 0.42 for 70,000 faces of five data sets,
# 0.02 if left and right, or x and y, have changed places.
LEAST_LIKE_A_FACE = 0.25


def aligned_matrix(landmarks: np.ndarray, rule: CropRule) -> np.ndarray:
    """Least-squares similarity that brings five landmarks to the rule's positions (Umeyama 1991).

    Args:
        landmarks: (5, 2) x, y in pixels, in the order that `CropRule` describes.

    Raises:
        ImageError: the points coincide, are not finite, or do not lie as those of a face.
    """
    # In two dimensions a similarity is one complex factor: z -> f z, f = <z, goal> / <z, z>.
    points = _numbers(landmarks, (5, 2), "landmarks") @ (1, 1j)
    goal, goal_centre = _complex(rule.landmarks)
    centre = points.sum() / 5
    source = points - centre
    spread = np.vdot(source, source).real
    if spread < 1e-6:
        raise ImageError("all landmarks coincide; check the detector, or give the box alone")
    common = complex(np.vdot(source, goal))
    if abs(common) ** 2 < LEAST_LIKE_A_FACE * spread * np.vdot(goal, goal).real:
        raise ImageError(
            "the landmarks lie as no face's do; give x before y, and in this order: the eye on the "
            "viewer's left, the other eye, the nose's tip, the mouth's corners left and right"
        )
    factor = common / spread
    shift = goal_centre - factor * complex(centre)
    return np.array(
        [[factor.real, -factor.imag, shift.real], [factor.imag, factor.real, shift.imag]]
    )


@lru_cache(maxsize=8)
def _complex(landmarks: tuple[tuple[float, float], ...]) -> tuple[np.ndarray, complex]:
    """Points about their centre, complex128 (5,), and the centre."""
    points = np.asarray(landmarks, np.float64) @ (1, 1j)
    return points - points.mean(), complex(points.mean())


def box_matrix(box: Sequence[float], rule: CropRule) -> np.ndarray:
    """Upright square around a detector's box (x, y, width, height in pixels).

    Raises:
        ImageError: the box is empty or not finite.
    """
    x, y, width, height = _numbers(box, (4,), "box")
    if min(width, height) <= 0:
        raise ImageError(f"box {box}: expected x, y, width, height with a positive size")
    return _square_matrix(x + width / 2, y + height / 2, rule.box_margin * max(width, height))


def _numbers(values: Any, shape: tuple[int, ...], name: str) -> np.ndarray:
    try:
        array = np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise ImageError(f"{name} {values!r}: expected numbers of shape {shape}") from error
    if array.shape != shape or not (np.abs(array) <= FARTHEST).all():  # nor is NaN
        raise ImageError(
            f"{name} of shape {array.shape}: expected finite numbers of shape {shape}, in pixels "
            f"and none beyond {FARTHEST:.0f}"
        )
    return array


def whole_matrix(shape: Sequence[int]) -> np.ndarray:
    """The picture is a face crop already: the square of its area about its centre.

    The largest square inside cuts chin and forehead off what a detector's box holds, the smallest
    around it makes the faces of photographs small; both lose accuracy (`export/NOTES.md`). Of very
    long pictures it is the square of twice their shorter side, so that half of it is picture.
    """
    height, width = shape[:2]
    side = min(math.sqrt(width * height), 2 * min(width, height))
    return _square_matrix(width / 2, height / 2, side)


def _square_matrix(centre_x: float, centre_y: float, side: float) -> np.ndarray:
    return np.array([[1 / side, 0, 0.5 - centre_x / side], [0, 1 / side, 0.5 - centre_y / side]])


def face_matrix(
    shape: Sequence[int],
    rule: CropRule,
    box: Optional[Sequence[float]] = None,
    landmarks: Optional[np.ndarray] = None,
) -> np.ndarray:
    """The best crop that what is known allows: landmarks, else a box, else the whole picture."""
    if landmarks is not None:
        return aligned_matrix(landmarks, rule)
    return whole_matrix(shape) if box is None else box_matrix(box, rule)


def cut(image: np.ndarray, matrix: np.ndarray, size: int, fill: int) -> np.ndarray:
    """Resample one face into a (size, size, 3) uint8 square.

    Shrinking by two or more first averages whole pixels over the face's surroundings, because a
    bilinear warp alone would alias a large face.

    Args:
        image: uint8 (H, W, 3).
        matrix: (2, 3) from pixels of `image` to the unit square.
        size: side of the result, in pixels.
        fill: grey level of what lies outside the picture.

    Raises:
        ImageError: less than a tenth of the square lies in the picture, or it is smaller than two
            of its pixels.
    """
    bounds = _bounds(matrix)
    _check_overlap(image, bounds)
    (a, b, _), (c, d, _) = matrix.tolist()
    shrink = int(1 / (size * math.sqrt(abs(a * d - b * c))) + 1e-6)
    if shrink >= 2:
        image, matrix = _shrunk(image, matrix, bounds, shrink)
    # OpenCV places pixel centres at integers; the matrix speaks of edges, hence the half pixels.
    pixels = matrix * size
    pixels[:, 2] += pixels[:, :2].sum(1) * 0.5 - 0.5
    return cv2.warpAffine(
        image,
        pixels,
        (size, size),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(fill, fill, fill),
    )


def _check_overlap(image: np.ndarray, bounds: tuple[float, float, float, float]) -> None:
    """Boxes in another frame's pixels, or in shares of one, would be answered for grey."""
    left, top, right, bottom = bounds
    height, width = image.shape[:2]
    across, down = min(right, width) - max(left, 0), min(bottom, height) - max(top, 0)
    area = (right - left) * (bottom - top)
    outside = min(across, down) <= 0 or across * down < LEAST_INSIDE * area
    tiny = max(right - left, bottom - top) < 2 and max(width, height) > 2
    if outside or tiny:
        raise ImageError(
            f"the face's square {left:.1f},{top:.1f} to {right:.1f},{bottom:.1f} does not lie in "
            f"the {width}x{height} picture, or less than a tenth of it does; give boxes and "
            "landmarks in its pixels"
        )


def _bounds(matrix: np.ndarray) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of a crop in the picture's pixels."""
    # Plain numbers: for a few of them numpy takes longer than the network does for a layer.
    (a, b, x), (c, d, y) = matrix.tolist()
    determinant = a * d - b * c
    if not determinant or not math.isfinite(determinant):
        raise ImageError("the face's square has no size; check its box or landmarks")
    corners = [(u - x, v - y) for u in (0, 1) for v in (0, 1)]
    across = [(u * d - v * b) / determinant for u, v in corners]
    down = [(v * a - u * c) / determinant for u, v in corners]
    return min(across), min(down), max(across), max(down)


def _shrunk(
    image: np.ndarray, matrix: np.ndarray, bounds: tuple[float, float, float, float], factor: int
) -> tuple[np.ndarray, np.ndarray]:
    """The part of a picture that a crop touches, averaged over factor x factor pixels."""
    height, width = image.shape[:2]
    left, right = _span(bounds[0], bounds[2], width, factor)
    top, bottom = _span(bounds[1], bounds[3], height, factor)
    part = image[top:bottom, left:right]
    out_w, out_h = max(1, part.shape[1] // factor), max(1, part.shape[0] // factor)
    scale = np.array([part.shape[1] / out_w, part.shape[0] / out_h])
    moved = matrix.copy()
    moved[:, 2] += matrix[:, :2] @ (left, top)
    moved[:, :2] *= scale
    return cv2.resize(part, (out_w, out_h), interpolation=cv2.INTER_AREA), moved


def _span(low: float, high: float, size: int, factor: int) -> tuple[int, int]:
    """The pixels from low to high and some around them, as many as a multiple of the factor where
    the picture has them: OpenCV averages whole blocks several times faster.
    """
    start = min(max(math.floor(low) - factor, 0), size - 1)
    count = -(-(math.ceil(high) + factor - start) // factor) * factor
    start = max(0, min(start, size - count))
    return start, min(start + count, size)
