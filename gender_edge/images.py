"""From anything a user holds to the square uint8 pixels that a network reads: the only place.

The runtime and the workshop both cut faces here, so a network is trained on exactly what it will
be given. Normalisation, layout and grey conversion are not here: they are inside the graph.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Optional, Union

import cv2
import numpy as np

from . import headers
from .errors import ImageError
from .spec import CropRule

Image = Union[str, "os.PathLike[str]", bytes, bytearray, memoryview, np.ndarray, Any]

MAX_SIDE = 16_384  # px; larger pictures are not faces, and cost a gigabyte to decode
FARTHEST = 1e6  # px; coordinates beyond it are of no picture
LEAST_INSIDE = 0.1  # of a face's square; of less, a network would be asked about grey
# What of five landmarks' spread a face explains: at least 0.42 for 70,000 faces of five data sets,
# 0.02 if left and right, or x and y, have changed places.
LEAST_LIKE_A_FACE = 0.25
CHANNELS = {"bgr": None, "rgb": cv2.COLOR_RGB2BGR}
CHANNELS_WITH_ALPHA = {"bgr": cv2.COLOR_BGRA2BGR, "rgb": cv2.COLOR_RGBA2BGR}


def load(image: Image, color: str = "bgr") -> np.ndarray:
    """Any supported image as a BGR array.

    Args:
        image: a path, the bytes of an encoded file, a uint8 array of shape (H, W), (H, W, 1),
            (H, W, 3) or (H, W, 4), or a PIL image.
        color: channel order of arrays, "bgr" (OpenCV's, the default) or "rgb". Files, bytes and
            PIL images say their own.

    Returns:
        uint8 array of shape (H, W, 3), BGR.

    Raises:
        ImageError: with what was wrong and what to do.
    """
    if isinstance(image, (str, os.PathLike)):
        path = os.fsdecode(image)
        return decode(_read(path), name=path)
    if isinstance(image, (bytes, bytearray, memoryview)):
        return decode(bytes(image))
    if isinstance(image, np.ndarray):
        return _from_array(image, color)
    if hasattr(image, "convert") and hasattr(image, "mode"):  # known without importing PIL
        return _from_pil(image)
    raise ImageError(
        f"cannot read an image from {type(image).__name__}; give a path, the bytes of a file, a "
        "uint8 array or a PIL image"
    )


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise ImageError(f"{path}: no such file; check the path") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the path
        raise ImageError(f"{path!r}: cannot be read ({error}); check the path") from error


def _from_pil(image: Any) -> np.ndarray:
    _check_side(image.size[0], image.size[1], "PIL image")
    if image.mode.startswith(("I", "F")):  # 16 and 32 bit: PIL would clip them to white
        raise ImageError(
            f"PIL image of mode {image.mode!r}: expected 8 bits a channel; scale it to 0 to 255 "
            "and convert it to 'L' or 'RGB' first"
        )
    from PIL import ImageOps  # the caller has it: this is one of its images

    try:
        upright = ImageOps.exif_transpose(image).convert("RGB")
    except Exception as error:  # lazy decoding: any of PIL's readers may fail in any way here
        raise ImageError(
            f"PIL image cannot be decoded ({error}); it is damaged or closed"
        ) from error
    return cv2.cvtColor(np.asarray(upright), cv2.COLOR_RGB2BGR)


def decode(data: bytes, name: str = "image bytes") -> np.ndarray:
    """Decode a file's bytes into uint8 (H, W, 3) BGR, turned upright by its EXIF orientation.

    Of 16 bits a channel the upper eight are taken, so a picture of 10 or 12 bits has to be scaled
    to the whole range before it is saved.

    Raises:
        ImageError: empty, cut short, damaged so that its decoder notices, no JPEG, PNG, WebP, BMP
            or TIFF, or larger than `MAX_SIDE`.
    """
    if not data:
        raise ImageError(f"{name}: zero bytes; the file is empty, fetch it again")
    header = headers.inspect(data)
    if header is None:  # OpenCV reads more, but allocates before it tells a size
        raise _unknown(name)
    _check_side(header.width, header.height, name)
    if not header.complete:
        raise ImageError(f"{name}: ends before its end marker; it is truncated, fetch it again")
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise ImageError(f"{name}: too large or damaged to decode ({error.err})") from error
    if pixels is None:
        raise _unknown(name)
    _check_side(pixels.shape[1], pixels.shape[0], name)
    return pixels


def _unknown(name: str) -> ImageError:
    return ImageError(
        f"{name}: not an image that can be read; expected JPEG, PNG, WebP, BMP or TIFF, undamaged"
    )


def _from_array(array: np.ndarray, color: str) -> np.ndarray:
    if color not in CHANNELS:
        raise ImageError(f"color={color!r}: expected 'bgr' or 'rgb'")
    if array.dtype != np.uint8:
        note = " with NaN or infinite values" if _has_non_finite(array) else ""
        raise ImageError(
            f"array of dtype {array.dtype}{note}: expected uint8, 0 to 255; for a range of 0 to M "
            "use (image * (255 / M)).round().astype('uint8')"
        )
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        raise ImageError(
            f"array of shape {array.shape}: expected (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)"
        )
    if 0 in array.shape:
        raise ImageError(f"array of shape {array.shape} has no pixels; check the crop's bounds")
    _check_side(array.shape[1], array.shape[0], "array")
    channels = array.shape[2]
    array = np.ascontiguousarray(array)
    if channels == 1:
        return cv2.cvtColor(array, cv2.COLOR_GRAY2BGR)
    conversion = (CHANNELS_WITH_ALPHA if channels == 4 else CHANNELS)[color]
    return array if conversion is None else cv2.cvtColor(array, conversion)


def _has_non_finite(array: np.ndarray) -> bool:
    return bool(np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all())


def _check_side(width: int, height: int, name: str) -> None:
    if min(width, height) < 1 or max(width, height) > MAX_SIDE:
        raise ImageError(
            f"{name}: {width}x{height} pixels, expected 1 to {MAX_SIDE} a side; crop the face or "
            "shrink the picture first"
        )


# A crop is a 2x3 matrix from picture coordinates (pixels) to the unit square of the crop.


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
    if not determinant:
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
