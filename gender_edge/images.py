"""From anything a user holds to a picture in uint8 BGR."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Union

import cv2
import numpy as np

from . import headers
from .errors import ArgumentError, ImageError

Image = Union[str, "os.PathLike[str]", bytes, bytearray, memoryview, np.ndarray, Any]

MAX_SIDE = 16_384  # px; larger pictures are not faces, and cost a gigabyte to decode
CHANNELS = {"bgr": None, "rgb": cv2.COLOR_RGB2BGR}
CHANNELS_WITH_ALPHA = {"bgr": cv2.COLOR_BGRA2BGR, "rgb": cv2.COLOR_RGBA2BGR}


def check_color(color: str) -> None:
    """Raise ArgumentError unless it is a channel order of arrays."""
    if color not in CHANNELS:
        raise ArgumentError(f"color={color!r}: expected 'bgr' or 'rgb'")


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
        ArgumentError: `color` is another word.
    """
    check_color(color)
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
