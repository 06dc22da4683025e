"""Two published detectors on OpenCV: YuNet and CenterFace."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..errors import ModelError
from ..sources import for_opencv
from .found import MINIMUM_SCORE, OVERLAP, SIDE, Faces, distinct, none, shrunk


class _OnOpenCV(ABC):
    """What detectors on OpenCV share: one network per thread, because it keeps its last input."""

    def __init__(self, path: str, *, side: int = SIDE, minimum: float = MINIMUM_SCORE) -> None:
        self.path, self.side, self.minimum = for_opencv(path, ModelError), side, minimum
        self._local = threading.local()
        self(np.zeros((64, 64, 3), np.uint8))  # a file of another network is told here

    def __repr__(self) -> str:
        return f"{type(self).__name__}({Path(self.path).name}, OpenCV {cv2.__version__})"

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
        small, scale = shrunk(frame, self.side)
        network = self._network()
        try:
            network.setInputSize(small.shape[1::-1])
            _, rows = network.detect(small)
        except cv2.error as error:
            raise ModelError(f"{self.path}: not YuNet ({error.err})") from error
        if rows is None:
            return none()
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
        small, scale = shrunk(frame, self.side)
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
            return none()
        cells = np.stack([columns, rows], 1)
        lengths = self.STRIDE * np.exp(size[::-1, rows, columns].T)  # (N, 2): width, height
        centres = self.STRIDE * (cells + offset[::-1, rows, columns].T + 0.5)
        corners = centres - lengths / 2
        scores = heat[0, rows, columns]
        boxes = np.concatenate([corners, lengths], 1)
        pairs = points[:, rows, columns].T.reshape(-1, 5, 2)[:, :, ::-1]  # stored y before x
        landmarks = corners[:, None] + pairs * lengths[:, None]
        return distinct(boxes, landmarks, scores, self.minimum, scale)
