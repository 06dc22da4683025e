"""What a detector must not take for a face: backgrounds without one, and things like faces.

There are no photographs of empty rooms here. Backgrounds are made of scikit-image's sample
pictures that show nobody, of what surrounds the faces in labelled pictures (hair, cloth, wall), and
of smooth noise, alone or shuffled into a mosaic.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from gender_edge import images
from gender_edge.errors import DataError
from gender_edge.faces.found import shrunk
from gender_edge.samples import Sample

from ..data.augment import lit
from ..data.packs import Pack

# Of scikit-image's sample pictures those without people.
TEXTURES = (
    *("brick.png", "cell.png", "chelsea.png", "chessboard_GRAY.png", "clock_motion.png"),
    *("coffee.png", "coins.png", "color.png", "grass.png", "gravel.png", "horse.png"),
    *("hubble_deep_field.jpg", "ihc.png", "logo.png", "moon.png", "motorcycle_left.png"),
    *("motorcycle_right.png", "retina.jpg", "rocket.jpg", "text.png"),
)
LARGEST_TEXTURE = 640  # px
MARGIN = 0.1  # of the box: this far from a face nothing of it is left
FEATURELESS = 6  # px across a head: no eye, no mouth is left
NARROWEST = 12  # px of a strip beside a face


@lru_cache(maxsize=1)
def textures() -> tuple[np.ndarray, ...]:
    """The sample pictures, uint8 (H, W, 3).

    Raises:
        DataError: scikit-image is not installed, or has them no more.
    """
    found = importlib.util.find_spec("skimage")
    folders = (found.submodule_search_locations if found else None) or [""]
    paths = [Path(folders[0]) / "data" / name for name in TEXTURES]
    if not all(path.is_file() for path in paths):
        raise DataError("scikit-image's pictures are not there: pip install 'scikit-image>=0.22'")
    return tuple(shrunk(images.decode(p.read_bytes(), p.name), LARGEST_TEXTURE)[0] for p in paths)


def background(
    shape: tuple[int, int], packs: Sequence[Pack], rng: np.random.Generator
) -> np.ndarray:
    """A frame that shows nobody, uint8 (height, width, 3)."""
    kind = rng.choice(3, p=(0.35, 0.25, 0.4))
    if kind == 0:
        return lit(_part(_texture(rng), shape, rng), rng)
    frame = _smooth(shape, rng)
    if kind == 2:
        for _ in range(int(rng.integers(4, 40))):
            size = (np.exp(rng.uniform(np.log(0.04), np.log(0.6), 2)) * min(shape)).astype(int) + 2
            patch = _surroundings(packs, rng) if rng.random() < 0.7 else _texture(rng)
            lay(frame, lit(_part(patch, (int(size[0]), int(size[1])), rng), rng), rng)
    return frame


def lay(frame: np.ndarray, patch: np.ndarray, rng: np.random.Generator) -> None:
    """Put a patch somewhere into a frame; one that is larger is cut."""
    patch = patch[: frame.shape[0], : frame.shape[1]]
    height, width = patch.shape[:2]
    y = int(rng.integers(0, frame.shape[0] - height + 1))
    x = int(rng.integers(0, frame.shape[1] - width + 1))
    frame[y : y + height, x : x + width] = patch


def piece(image: np.ndarray, sample: Sample, rng: np.random.Generator) -> np.ndarray:
    """Less than half of a face, uint8: an eye, half a mouth. Not a face."""
    x, y, width, height = sample.box or (0, 0, *image.shape[1::-1])
    share = rng.uniform(0.25, 0.6, 2)
    share[rng.integers(2)] = rng.uniform(0.25, 0.4)
    w, h = share * (width, height)
    left, top = x + rng.uniform(0, width - w), y + rng.uniform(0, height - h)
    top, left = max(0, int(top)), max(0, int(left))
    return image[top : top + max(4, int(h)), left : left + max(4, int(w))]


def blurred(image: np.ndarray) -> np.ndarray:
    """A head without features: skin, hair and outline only."""
    few = cv2.resize(image, (FEATURELESS, FEATURELESS), interpolation=cv2.INTER_AREA)
    return cv2.resize(few, image.shape[1::-1], interpolation=cv2.INTER_CUBIC)


def _texture(rng: np.random.Generator) -> np.ndarray:
    known = textures()
    return known[int(rng.integers(len(known)))]


def _part(picture: np.ndarray, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """A random part of a picture, at random magnification, in a given shape."""
    height, width = picture.shape[:2]
    largest = min(height / shape[0], width / shape[1])
    zoom = largest * rng.uniform(0.3, 1)
    h, w = max(1, int(shape[0] * zoom)), max(1, int(shape[1] * zoom))
    y, x = int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1))
    part = picture[y : y + h, x : x + w]
    if rng.random() < 0.5:
        part = part[:, ::-1]
    method = cv2.INTER_AREA if zoom > 1 else cv2.INTER_LINEAR
    return cv2.resize(part, shape[::-1], interpolation=method)


def _smooth(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Noise of low frequency, in colours near each other or not."""
    rows, columns = rng.integers(1, 10, 2)
    spread = rng.uniform(5, 120)
    coarse = rng.uniform(0, 255, 3) + rng.uniform(-spread, spread, (rows, columns, 3))
    return cv2.resize(
        np.clip(coarse, 0, 255).astype(np.uint8), shape[::-1], interpolation=cv2.INTER_CUBIC
    )


def _surroundings(packs: Sequence[Pack], rng: np.random.Generator) -> np.ndarray:
    """A strip beside the face of some picture; a texture where the face leaves no room."""
    pack = packs[int(rng.integers(len(packs)))]
    number = int(rng.integers(len(pack)))
    image, box = pack.image(number), pack.samples[number].box
    if box is not None:
        x, y, w, h = box
        left, right = int(x - MARGIN * w), int(x + w + MARGIN * w)
        top, bottom = int(y - MARGIN * h), int(y + h + MARGIN * h)
        sides = [
            image[:, : max(0, left)],
            image[:, max(0, right) :],
            image[: max(0, top)],
            image[max(0, bottom) :],
        ]
        sides = [s for s in sides if min(s.shape[:2]) >= NARROWEST]
        if sides:
            return sides[int(rng.integers(len(sides)))]
    return _texture(rng)
