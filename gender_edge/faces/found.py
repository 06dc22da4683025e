"""What every detector gives, and the pixels that every detector looks at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Optional

import cv2
import numpy as np

from ..errors import ImageError, ModelError

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


def by_landmarks_or_box(
    cut: Callable[..., np.ndarray], faces: Faces, number: int
) -> tuple[np.ndarray, str]:
    """One of the faces cut by its landmarks, else by its box; and then why they would not do.

    Args:
        cut: its frame, as `Classifier.crop` does: called with `box` and `landmarks`.

    Raises:
        ImageError: its box will not do either.
    """
    box, why = faces.boxes[number], ""
    if faces.landmarks is not None:
        try:
            return cut(box=box, landmarks=faces.landmarks[number]), ""
        except ImageError as error:
            why = str(error)  # the error itself would keep the frame
    return cut(box=box), why


def as_faces(answer: Any) -> Faces:
    """What a detector of any kind gave for one frame.

    Args:
        answer: `Faces`; boxes (N, 4), x, y, width, height in pixels; or a tuple of two, such boxes
            and landmarks (N, 5, 2) or None. No boxes, or None in their place, is no face.

    Raises:
        ModelError: it is something else.
    """
    if isinstance(answer, Faces):
        return answer
    try:
        boxes, landmarks = answer if _is_pair(answer) else (answer, None)
        if boxes is None:  # what several detectors say of an empty frame
            return none()
        boxes = np.asarray(boxes, np.float32)
        landmarks = None if landmarks is None else np.asarray(landmarks, np.float32)
    except (TypeError, ValueError) as error:
        raise _strange(type(answer).__name__) from error
    if not boxes.size and (landmarks is None or not landmarks.size):
        return none()
    found = [part for part in (boxes, landmarks) if part is not None]
    expected = [(len(found[0]), 4), (len(found[0]), 5, 2)] if boxes.ndim else []
    if [part.shape for part in found] != expected[: len(found)] or not np.isfinite(boxes).all():
        raise _strange(f"{type(answer).__name__} of {[part.shape for part in found]}")
    return Faces(boxes, landmarks, np.ones(len(boxes), np.float32))


def _is_pair(answer: Any) -> bool:
    """Whether it is boxes and landmarks, and not a tuple of two boxes."""
    if not isinstance(answer, tuple) or len(answer) != 2:
        return False
    return answer[1] is None or np.ndim(answer[1]) != 1


def _strange(found: str) -> ModelError:
    return ModelError(
        f"the detector gave {found}; expected Faces, boxes (N, 4) of finite x, y, width, height, "
        "or a tuple of boxes and landmarks (N, 5, 2); wrap it in a function that gives one of these"
    )


def shrunk(frame: np.ndarray, side: int) -> tuple[np.ndarray, float]:
    """The frame, shrunk so that its longer side is at most `side`, and the factor it was shrunk by.

    Raises:
        ImageError: not a uint8 array (H, W, 3), which detectors would misread.
    """
    dtype, shape = getattr(frame, "dtype", None), tuple(getattr(frame, "shape", ()))
    if dtype != np.uint8 or len(shape) != 3 or shape[2] != 3 or 0 in shape:
        raise ImageError(
            f"frame of type {type(frame).__name__}, dtype {dtype} and shape {shape}: expected "
            "a uint8 array (H, W, 3), BGR; `gender_edge.images.load` makes one of any picture"
        )
    scale = max(frame.shape[:2]) / side
    if scale <= 1:
        return frame, 1.0
    size = tuple(max(1, round(length / scale)) for length in frame.shape[1::-1])
    return cv2.resize(frame, size, interpolation=cv2.INTER_AREA), scale


def distinct(
    boxes: np.ndarray, landmarks: np.ndarray, scores: np.ndarray, minimum: float, scale: float
) -> Faces:
    """One answer per face: of boxes that share more than `OVERLAP`, the one of the highest score.

    Args:
        scale: what boxes (N, 4) and landmarks (N, 5, 2) are multiplied by.
    """
    apart = cv2.dnn.NMSBoxes(boxes.tolist(), scores.tolist(), minimum, OVERLAP)
    kept = np.array(apart, int).ravel()
    parts = boxes[kept] * scale, landmarks[kept] * scale, scores[kept]
    return Faces(*(part.astype(np.float32) for part in parts))


def none() -> Faces:
    """No face."""
    return Faces(
        np.empty((0, 4), np.float32), np.empty((0, 5, 2), np.float32), np.empty(0, np.float32)
    )
