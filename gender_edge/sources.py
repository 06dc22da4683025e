"""What a camera's source is, and how it may be shown."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Union

import cv2

from . import gstreamer
from .errors import DataError, GenderEdgeError

_ADDRESS = re.compile(r"[a-z][\w+.-]*://", re.IGNORECASE)
_VIDEO = re.compile(
    r"(https?|file)://[^?#]+\.(avi|m4v|mkv|mov|mp4|mpe?g|webm|wmv)([?#]|$)", re.IGNORECASE
)
# All up to the last @: a password that nobody quoted may hold any sign.
_CREDENTIALS = re.compile(
    r"([a-z][\w+.-]*://)(?=[^/@\s]*[:@])(?:(?!\s!\s).)*@", re.IGNORECASE | re.DOTALL
)
_QUERY = re.compile(
    r"([a-z][\w+.-]*://(?:(?!\s!\s)[^?])*\?)((?:(?!\s!\s|\s[\w-]+=).)+)", re.IGNORECASE | re.DOTALL
)
_VALUE = re.compile(r"([^&=]+=)[^&]*|[^&]+")  # of a key in a query, or what has no key
_SECRET = re.compile(
    r"""([\w.-]*(?:user|usr|login|account|pass|pwd|pw|secret|token|auth|key|signature)[\w.-]*\s*=\s*)
    ("(?:\\.|[^"\\])*" | '(?:\\.|[^'\\])*' | (?:(?!&|\s!\s|\s[\w-]+=).)+)""",
    re.IGNORECASE | re.DOTALL | re.VERBOSE,
)


def shown(source: Union[int, str]) -> str:
    """A source as it may be shown: without user and password, be they an address's or a pipeline's
    properties, and without the values of an address's query, whose keys say nothing of what is
    secret. In doubt too much goes: `rtsp://host:554/a@b` becomes `rtsp://b`.
    """
    bare = _CREDENTIALS.sub(r"\1", str(source))
    masked = _QUERY.sub(lambda found: found[1] + _VALUE.sub(r"\1***", found[2]), bare)
    return _SECRET.sub(r"\1***", masked)


def is_file(source: str) -> bool:
    """Whether a source has an end: a file, numbered pictures, or a video at an address.

    Raises:
        DataError: it looks like a file and is not there.
    """
    if is_address(source):
        return _VIDEO.match(source) is not None
    if is_pipeline(source) or source.startswith("/dev/"):
        return False
    if not _exists(source) and not re.search(r"%0?\d*d", source):
        raise DataError(f"{source}: no such file, and neither device number nor address")
    return True


def is_address(source: str) -> bool:
    """Whether it begins with a scheme."""
    return _ADDRESS.match(source) is not None


def is_pipeline(source: Union[int, str]) -> bool:
    """Whether it is a GStreamer pipeline."""
    return (
        isinstance(source, str) and "!" in source and not is_address(source) and not _exists(source)
    )


def by_gstreamer(source: Union[int, str]) -> bool:
    """Whether a source is a pipeline for GStreamer's own packages, which tell its end from a camera
    that went away; an OpenCV with GStreamer, which does not, runs it only where these are missing.
    """
    return is_pipeline(source) and (
        gstreamer.installed() or not cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER)
    )


def for_opencv(path: str, error: type[GenderEdgeError] = DataError) -> str:
    """A path as it is, if OpenCV can be given it: of one that is no text it crashes.

    Raises:
        error: it cannot.
    """
    try:
        path.encode()
    except UnicodeEncodeError:
        raise error(f"{path!a}: OpenCV cannot open a name that is not UTF-8; rename it") from None
    return path


def _exists(path: str) -> bool:
    try:
        return Path(path).is_file()
    except (OSError, ValueError):  # too long for a path, as pipelines are
        return False
