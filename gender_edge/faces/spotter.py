"""This project's own face detector: one convolutional network on ONNX Runtime.

A cell of a map answers for faces whose centre is near it, as in FCOS (Tian et al. 2019) and YuNet
(Wu et al. 2023): a score, a box, five landmarks. The score is the overlap that the network expects
of its box (Li et al. 2020), so the best box of a face has the highest one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

import numpy as np

from ..errors import BackendError, ModelError
from ..spec import DetectorSpec
from .found import SIDE, Faces, distinct, none, shrunk

CHANNELS = 15  # of a map, as `DetectorSpec` describes them


class Spotter:
    """Our detector. Safe to call from many threads.

    Attributes:
        spec: what the model says of itself.
        minimum: answers of a lower score are none.
    """

    def __init__(
        self,
        model: bytes,
        source: str,
        *,
        side: int = SIDE,
        minimum: Optional[float] = None,
        threads: Optional[int] = None,
    ) -> None:
        """Open a detector.

        Args:
            model: content of an ONNX file of `python -m export detector`.
            source: what to call it in errors.
            side: frames are shrunk so that their longer side is at most this, in pixels.
            minimum: of the scores; None for the model's own, chosen on validation.
            threads: None leaves them to ONNX Runtime (all cores).

        Raises:
            ModelError: not an ONNX file, damaged, or not a face detector of this package.
            BackendError: ONNX Runtime is not installed, not whole, or has too little memory.
        """
        from ..backends.onnx import described, open_session  # takes most of the import time

        self._session = open_session(model, source, threads=threads)
        self.spec = DetectorSpec.of_model(*described(self._session), source)
        self.source, self.side = source, side
        self.minimum = self.spec.minimum_score if minimum is None else minimum
        self._input = self._session.get_inputs()[0].name
        shapes = [output.shape for output in self._session.get_outputs()]
        if [shape[1:2] for shape in shapes] != [[CHANNELS]] * len(self.spec.strides):
            raise ModelError(
                f"{source}: expected a map of {CHANNELS} channels for each stride "
                f"{self.spec.strides}, found {shapes}; export the detector again"
            )

    def __repr__(self) -> str:
        provider = self._session.get_providers()[0]
        return f"Spotter({self.spec.name}, onnxruntime {provider}, {self.spec.precision})"

    def __call__(self, frame: np.ndarray) -> Faces:
        """Faces of a uint8 (H, W, 3) BGR frame."""
        pixels, scale = shrunk(frame, self.side)
        try:
            maps = self._session.run(None, {self._input: np.ascontiguousarray(pixels)[None]})
        except Exception as error:  # ONNX Runtime's own classes have no common public base
            raise BackendError(
                f"{self.source}: failed on a frame of {frame.shape}: {error}"
            ) from error
        return decode([own[0] for own in maps], self.spec.strides, self.minimum, scale)


def decode(
    maps: Sequence[np.ndarray], strides: Sequence[int], minimum: float, scale: float = 1.0
) -> Faces:
    """The faces that the maps of one frame tell of.

    Args:
        maps: float (15, rows, columns), one per stride.
        minimum: of the scores.
        scale: what positions are multiplied by, to be pixels of the frame.
    """
    least = np.log(minimum / (1 - minimum))
    parts = [_candidates(own, stride, least) for own, stride in zip(maps, strides)]
    boxes, landmarks, logits = (np.concatenate(part) for part in zip(*parts))
    if not len(boxes):
        return none()
    return distinct(boxes, landmarks, 1 / (1 + np.exp(-logits)), 0.0, scale)


def _candidates(
    own: np.ndarray, stride: int, least: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes (M, 4), landmarks (M, 5, 2) and logits (M,) of the cells whose logit is at least so."""
    rows, columns = np.nonzero(own[0] >= least)
    answers = own[:, rows, columns].T
    middles = np.stack([columns, rows], 1) + 0.5
    lengths = stride * np.exp(answers[:, 3:5])
    corners = stride * (middles + answers[:, 1:3]) - lengths / 2
    landmarks = stride * (middles[:, None] + answers[:, 5:].reshape(-1, 5, 2))
    return np.concatenate([corners, lengths], 1), landmarks, answers[:, 0]
