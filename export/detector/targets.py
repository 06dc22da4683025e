"""Which cell of which map answers for which face, and what it should say.

A map takes the faces whose side is 1.25 to 4.5 times its stride; where two maps' ranges meet, both
learn. On a map, the cells near the middle of a face answer for it, more of them for a large one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gender_edge.faces.spotter import CHANNELS

REACH = (1.25, 4.5)  # of a face's side (root of its box's area) to the stride
FACE, NOTHING, UNSAID = 1, 0, -1


def targets(
    boxes: np.ndarray,
    landmarks: np.ndarray,
    ignored: np.ndarray,
    shape: tuple[int, int],
    strides: Sequence[int],
) -> tuple[np.ndarray, np.ndarray]:
    """What all cells of all maps should say of one frame, in the maps' order, C cells in all.

    Args:
        boxes, landmarks, ignored: (N, 4), (N, 5, 2) and (M, 4) as in a `Scene`.
        shape: height and width of the frame.

    Returns:
        int8 (C,): FACE, NOTHING or UNSAID; float32 (C, 14): what `DetectorSpec` says of a map's
        channels, without the score, where it is FACE.
    """
    sides = np.sqrt(boxes[:, 2] * boxes[:, 3])
    states, values = [], []
    for number, stride in enumerate(strides):
        middles = cells(shape, stride)
        state = np.zeros(len(middles), np.int8)
        value = np.zeros((len(middles), CHANNELS - 1), np.float32)
        low = 0.0 if number == 0 else REACH[0] * stride
        high = np.inf if number == len(strides) - 1 else REACH[1] * stride
        for x, y, width, height in ignored:
            inside = np.abs(middles - (x + width / 2, y + height / 2))
            state[(inside <= np.array((width, height)) / 2 + stride / 2).all(1)] = UNSAID
        for i in np.argsort(-sides):  # of two faces that a cell is near to, the smaller
            if low <= sides[i] <= high:
                away = np.abs(middles - boxes[i, :2] - boxes[i, 2:] / 2).max(1)
                near = away <= stride / 2 + sides[i] / 8
                state[near] = FACE
                value[near] = encode(boxes[i], landmarks[i], middles[near], stride)
        states.append(state)
        values.append(value)
    return np.concatenate(states), np.concatenate(values)


def cells(shape: tuple[int, int], stride: int) -> np.ndarray:
    """The middles of a map's cells, x and y in pixels, row by row: float (C, 2)."""
    rows, columns = (-(-length // stride) for length in shape)
    y, x = np.mgrid[:rows, :columns]
    return (np.stack([x.ravel(), y.ravel()], 1) + 0.5) * stride


def encode(box: np.ndarray, landmarks: np.ndarray, middles: np.ndarray, stride: int) -> np.ndarray:
    """A face as each of C cells should tell of it: (C, 14). `gender_edge.faces.spotter` decodes."""
    count = len(middles)
    centres = (box[:2] + box[2:] / 2 - middles) / stride
    lengths = np.tile(np.log(box[2:] / stride), (count, 1))
    points = (landmarks - middles[:, None]) / stride
    return np.concatenate([centres, lengths, points.reshape(count, 10)], 1)
