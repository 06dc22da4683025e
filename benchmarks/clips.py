"""Clips with known truth: labelled faces that sway before a camera, as long as one likes, since the
end joins the beginning.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from benchmarks import scenes
from gender_edge import DataError, images
from gender_edge.samples import LABELS, Sample

FPS, FRAMES = 15, 300
SIDE = 150  # px: of a pasted picture
GRAIN = 4.0  # standard deviation of a camera's noise, of 255


def pick(samples: Sequence[Sample], count: int) -> list[Sample]:
    """So many, from all over a labelled list, one label after the other.

    Raises:
        DataError: there are not as many.
    """
    found = []
    for number, label in enumerate(LABELS):
        own = [sample for sample in samples if sample.label == label]
        wanted = (count + 1 - number) // len(LABELS)
        if len(own) < wanted:
            raise DataError(
                f"{wanted} {label} faces are wanted and {len(own)} there; ask for fewer"
            )
        found.append([own[i * len(own) // wanted] for i in range(wanted)])
    return [found[i % len(LABELS)][i // len(LABELS)] for i in range(count)]


def write(path: Path, samples: Sequence[Sample], count: int = FRAMES) -> None:
    """A video (MP4) of the pictures of some samples, side by side.

    Raises:
        DataError: OpenCV cannot write it.
        ImageError: a picture cannot be read.
    """
    pictures = [images.decode(sample.read(), sample.name) for sample in samples]
    size = (scenes.WIDTH, scenes.HEIGHT)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), FPS, size)
    if not writer.isOpened():
        raise DataError(f"{path}: OpenCV cannot write a video; is the folder there?")
    for frame in frames(pictures, count):
        writer.write(frame)
    writer.release()


def frames(pictures: Sequence[np.ndarray], count: int) -> Iterator[np.ndarray]:
    """Each picture sways in a column of its own, in light that changes: uint8 (480, 640, 3)."""
    rng = np.random.default_rng(0)
    background = scenes.frame().astype(np.float32)
    faces = [cv2.resize(p, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for p in pictures]
    column = scenes.WIDTH // max(1, len(faces))
    for step in range(count):
        frame, turn = background.copy(), 2 * math.pi * step / count
        for number, face in enumerate(faces):
            x = number * column + (column - SIDE) // 2 + 12 * math.sin(5 * turn + number)
            y = (scenes.HEIGHT - SIDE) // 2 + 60 * math.sin(3 * turn + 2 * number)
            top, left = round(y), min(max(0, round(x)), scenes.WIDTH - SIDE)
            light = 1 + 0.15 * math.sin(7 * turn + number)
            frame[top : top + SIDE, left : left + SIDE] = face * light
        grain = rng.standard_normal(frame.shape, np.float32)
        yield np.clip(frame + GRAIN * grain, 0, 255).astype(np.uint8)
