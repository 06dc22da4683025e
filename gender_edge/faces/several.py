"""A detector that looks at a picture in more than one size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .found import Detector, Faces, as_faces, none


class Several:
    """Looks in several sizes: large faces are found in a small picture, small faces in a large one.

    What a later detector finds counts where its centre lies in no box of those before: close up
    they take parts of a face for a face.

    Args:
        detectors: of one kind, for small pictures first.
    """

    def __init__(self, detectors: Sequence[Detector]) -> None:
        self.detectors = tuple(detectors)

    def __repr__(self) -> str:
        return f"{self.detectors[0]!r} in {len(self.detectors)} sizes"

    def __call__(self, frame: np.ndarray) -> Faces:
        """All faces of a frame, uint8 (H, W, 3) BGR."""
        faces = none()
        for detector in self.detectors:
            more = as_faces(detector(frame))
            new = [i for i, box in enumerate(more.boxes) if not _within(box, faces.boxes)]
            faces = _joined(faces, more, new) if len(faces) else more
            if max(frame.shape[:2]) <= getattr(detector, "side", 0):
                break  # it has seen every pixel
        return faces


def _within(box: np.ndarray, boxes: np.ndarray) -> bool:
    """Whether the centre of a box x, y, width, height lies in one of others."""
    centre = box[:2] + box[2:] / 2
    inside = (boxes[:, :2] <= centre) & (centre <= boxes[:, :2] + boxes[:, 2:])
    return bool(inside.all(axis=1).any())


def _joined(faces: Faces, more: Faces, new: Sequence[int]) -> Faces:
    landmarks = None
    if faces.landmarks is not None and more.landmarks is not None:
        landmarks = np.concatenate([faces.landmarks, more.landmarks[new]])
    return Faces(
        np.concatenate([faces.boxes, more.boxes[new]]),
        landmarks,
        np.concatenate([faces.scores, more.scores[new]]),
    )
