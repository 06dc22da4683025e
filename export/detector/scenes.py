"""Frames with faces whose place is known: labelled pictures pasted onto backgrounds.

A face's box and landmarks are the teacher's own answer on the single picture, moved with it. A
teacher that looks at the whole frame can say more. Where it sees a face elsewhere, because much of
it is hidden or outside, that is believed, and so are faces that it is sure of where none was
pasted: people in the background of a picture. What it only suspects, and pasted faces that it
cannot see, are left out of the lesson.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Optional

import cv2
import numpy as np

from gender_edge.faces import Detector
from gender_edge.faces.found import shrunk
from gender_edge.samples import Sample
from gender_edge.tracks import overlaps

from ..data.augment import degraded, lit
from ..data.packs import Pack
from .backgrounds import background, blurred, lay, piece

SHAPES = ((240, 320), (320, 240), (256, 256), (192, 192))  # px: height, width of a frame, shrunk
SHARES = (0.45, 0.1, 0.25, 0.2)
CAMERA = (1.0, 1.0, 1.5, 2.0)  # how much larger the frame is before it is shrunk
MOST_FACES = 12
SMALL = 1.6  # 1 draws sides even by octave; more, smaller ones
SIDES = (9.0, 200.0)  # px of the shrunk frame: root of the area of the smallest and largest box
PORTRAITS = 0.3  # share of frames that one picture fills
LARGEST_TURN = 20  # degrees
PRESSED = 0.35  # share of faces that may be half outside the frame or half behind another
OUTSIDE, FAR_OUTSIDE = 0.15, 0.55  # share of a box that may lie outside, in each direction
LARGEST = 0.7  # of the frame's shorter side: no face in a crowd is larger
OCCLUDED, UNFOCUSED = 0.12, 0.3  # shares of faces
BLUR = (0.01, 0.06)  # its standard deviation, in sides of a face's box
TRIES = 8  # to find a place for a face
SHARED, HIDDEN = 0.15, 0.6  # of the smaller one: what a box and a later picture may have in common
UNSORTED = 0.4  # share of frames in which a large face may stand before a small one
SAME = 0.4  # intersection over union of two answers about one face
ALIKE = 0.7  # less of it, and the teacher's answer counts, if it is sure
SURE = 0.6  # score of the teacher's, from which on it says itself that there is a face
MIRRORED = [1, 0, 2, 4, 3]  # the landmarks' order in a mirror


@dataclass(frozen=True)
class Scene:
    """A frame and what is known of it.

    Attributes:
        frame: uint8 (H, W, 3) BGR.
        boxes: float32 (N, 4), x, y, width, height in pixels.
        landmarks: float32 (N, 5, 2).
        ignored: float32 (M, 4), boxes in which nothing is said to be right or wrong.
    """

    frame: np.ndarray
    boxes: np.ndarray
    landmarks: np.ndarray
    ignored: np.ndarray


class Faced:
    """The pictures of packs that have a box and landmarks, to be drawn from evenly by pack."""

    def __init__(self, packs: Sequence[Pack]) -> None:
        self.packs = packs
        self._known = [
            [i for i, s in enumerate(p.samples) if s.box and s.landmarks is not None] for p in packs
        ]

    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, Sample]:
        """Some picture, uint8 (H, W, 3), and its sample."""
        part = int(rng.integers(len(self.packs)))
        number = self._known[part][int(rng.integers(len(self._known[part])))]
        return self.packs[part].image(number), self.packs[part].samples[number]


def scene(
    faced: Faced,
    shape: tuple[int, int],
    rng: np.random.Generator,
    camera: Optional[float] = None,
    shrink: bool = True,
) -> Scene:
    """One random scene.

    Args:
        shape: height and width of the frame that a detector sees.
        camera: how much larger the frame is; None for a random factor.
        shrink: whether it is shrunk to that shape, as the runtime does.
    """
    factor = rng.choice(CAMERA) if camera is None else camera
    large = (round(shape[0] * factor), round(shape[1] * factor))
    if rng.random() < PORTRAITS:
        frame, boxes, landmarks = _portrait(faced, large, rng)
    else:
        frame, boxes, landmarks = _crowd(faced, large, factor, rng)
    frame = degraded(lit(frame, rng), rng)
    scale = 1.0
    if shrink:
        frame, scale = shrunk(frame, max(shape))
    return Scene(
        frame,
        np.asarray(np.reshape(boxes, (-1, 4)) / scale, np.float32),
        np.asarray(np.reshape(landmarks, (-1, 5, 2)) / scale, np.float32),
        np.empty((0, 4), np.float32),
    )


def heard(scene: Scene, teacher: Detector) -> Scene:
    """A scene as its teacher sees it.

    Args:
        teacher: at a low threshold: whatever it finds at all is not called wrong.
    """
    said = teacher(scene.frame)
    shared = overlaps(scene.boxes, said.boxes)
    seen, pasted = (shared > SAME).any(1), (shared > SAME).any(0)
    boxes, landmarks = scene.boxes.copy(), scene.landmarks.copy()
    for number, best in enumerate(shared.argmax(1) if len(said) else ()):
        unlike = SAME < shared[number, best] < ALIKE
        if said.landmarks is not None and unlike and said.scores[best] >= SURE:
            boxes[number], landmarks[number] = said.boxes[best], said.landmarks[best]
    boxes, landmarks, sure = boxes[seen], landmarks[seen], np.zeros(len(said), bool)
    if said.landmarks is not None:
        sure = ~pasted & (said.scores >= SURE)
        boxes = np.concatenate([boxes, said.boxes[sure]])
        landmarks = np.concatenate([landmarks, said.landmarks[sure]])
    suspected = said.boxes[~pasted & ~sure]
    ignored = np.concatenate([scene.ignored, scene.boxes[~seen], suspected])
    return replace(scene, boxes=boxes, landmarks=landmarks, ignored=ignored)


Placed = tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]


def _portrait(faced: Faced, shape: tuple[int, int], rng: np.random.Generator) -> Placed:
    """One picture that fills the frame, its face about the middle."""
    image, sample = faced.draw(rng)
    room = np.array(shape[::-1])
    scale = (room / image.shape[1::-1]).max() * rng.uniform(1, 1.25)
    matrix = _similarity(scale, 0.0, rng.random() < 0.5, _centre(sample))
    low, high = _reach(image, matrix)
    matrix[:, 2] += np.clip(room * rng.uniform(0.3, 0.7, 2), room - high, -low)
    frame = np.zeros((*shape, 3), np.uint8)
    _paste(frame, image, np.full(image.shape[:2], 255, np.uint8), matrix)
    box, points = _moved(sample, matrix)
    return frame, [box], [points]


def _crowd(faced: Faced, shape: tuple[int, int], factor: float, rng: np.random.Generator) -> Placed:
    """Faces and things like faces on a background, the large ones mostly further back."""
    frame = background(shape, faced.packs, rng)
    for _ in range(int(rng.integers(0, 6))):
        image, sample = faced.draw(rng)
        thing = piece(image, sample, rng) if rng.random() < 0.5 else blurred(image)
        zoom = factor * np.exp(rng.uniform(np.log(0.15), np.log(2)))
        size = [max(2, round(zoom * length)) for length in thing.shape[1::-1]]
        lay(frame, lit(cv2.resize(thing, size, interpolation=cv2.INTER_AREA), rng), rng)
    low, high = SIDES[0] * factor, min(SIDES[1] * factor, LARGEST * min(shape))
    sides = low * (high / low) ** (rng.random(int(rng.integers(0, MOST_FACES + 1))) ** SMALL)
    boxes: list[np.ndarray] = []
    landmarks: list[np.ndarray] = []
    sides = -np.sort(-sides) if rng.random() >= UNSORTED else sides
    for side in sides:
        image, sample = faced.draw(rng)
        matrix = _free_place(image, sample, side, shape, boxes, rng)
        if matrix is not None:
            image = lit(image, rng) if rng.random() < 0.5 else image
            if rng.random() < UNFOCUSED:
                image = _unfocused(image, sample, rng)
            _paste(frame, image, _mask(image, sample, rng), matrix)
            box, points = _moved(sample, matrix)
            if rng.random() < OCCLUDED:
                _occlude(frame, box, rng)
            boxes.append(box)
            landmarks.append(points)
    return frame, boxes, landmarks


def _free_place(
    image: np.ndarray,
    sample: Sample,
    side: float,
    shape: tuple[int, int],
    boxes: Sequence[np.ndarray],
    rng: np.random.Generator,
) -> Optional[np.ndarray]:
    """A matrix from picture to frame that hides little of the boxes; None if not soon found."""
    size, room = np.array(sample.box)[2:], np.array(shape[::-1])
    scale = side / np.sqrt(size.prod())
    pressed = rng.random() < PRESSED
    outside, shared = (FAR_OUTSIDE, HIDDEN) if pressed else (OUTSIDE, SHARED)
    near = np.minimum((0.5 - outside) * scale * size, room / 2)  # of the face's middle to an edge
    for _ in range(TRIES):
        angle = np.radians(rng.uniform(-LARGEST_TURN, LARGEST_TURN))
        matrix = _similarity(scale, angle, rng.random() < 0.5, _centre(sample))
        matrix[:, 2] += rng.uniform(near, room - near)
        low, high = _reach(image, matrix)
        if all(_shared(box, low, high) <= shared for box in boxes):
            return matrix
    return None


def _similarity(scale: float, angle: float, mirror: bool, about: np.ndarray) -> np.ndarray:
    """The 2x3 matrix that scales, turns and mirrors, and brings the point `about` to the origin."""
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    linear = np.array([[cos, -sin], [sin, cos]]) @ np.diag([-1.0 if mirror else 1.0, 1.0])
    return np.column_stack([linear, -linear @ about])


def _centre(sample: Sample) -> np.ndarray:
    x, y, width, height = sample.box or (0, 0, 0, 0)
    return np.array((x + width / 2, y + height / 2))


def _reach(image: np.ndarray, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The least and the greatest x, y that a picture comes to."""
    height, width = image.shape[:2]
    corners = np.array([(0, 0), (width, 0), (0, height), (width, height)])
    moved = corners @ matrix[:, :2].T + matrix[:, 2]
    return moved.min(0), moved.max(0)


def _shared(box: np.ndarray, low: np.ndarray, high: np.ndarray) -> float:
    """What a box and the rectangle from `low` to `high` share, against the smaller of the two."""
    both = np.minimum(box[:2] + box[2:], high) - np.maximum(box[:2], low)
    return float(np.clip(both, 0, None).prod() / min(box[2:].prod(), (high - low).prod()))


def _moved(sample: Sample, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Box (4,) and landmarks (5, 2) after a similarity.

    The box stays upright: it is that of the ellipse inside, turned.
    """
    linear = matrix[:, :2]
    half = np.array(sample.box)[2:] / 2
    reach = np.hypot(*(linear * half).T)
    box = np.concatenate([linear @ _centre(sample) + matrix[:, 2] - reach, 2 * reach])
    points = np.array(sample.landmarks) @ linear.T + matrix[:, 2]
    return box, points[MIRRORED] if np.linalg.det(linear) < 0 else points


def _mask(image: np.ndarray, sample: Sample, rng: np.random.Generator) -> np.ndarray:
    """How much of a picture covers what is below, uint8 (H, W): all of it or an ellipse about the
    face, with edges hard or soft.
    """
    height, width = image.shape[:2]
    mask = np.full((height, width), 255, np.uint8)
    if rng.random() < 0.5:
        x, y = _centre(sample).tolist()
        half = np.array(sample.box)[2:] * rng.uniform(0.6, 0.85)
        mask[:] = 0
        cv2.ellipse(mask, ((x, y), tuple((2 * half).tolist()), 0.0), 255, -1)
    if rng.random() < 0.6:
        mask[[0, -1]], mask[:, [0, -1]] = 0, 0
        mask = cv2.blur(mask, (2 * int(rng.integers(1, width // 12)) + 1,) * 2)
    return mask


def _paste(frame: np.ndarray, image: np.ndarray, mask: np.ndarray, matrix: np.ndarray) -> None:
    """Draw a picture into a frame, averaging its pixels where it gets smaller."""
    low, high = _reach(image, matrix)
    left, top = np.maximum(low, 0).astype(int)
    right, bottom = np.minimum(np.ceil(high), frame.shape[1::-1]).astype(int)
    if right <= left or bottom <= top:
        return
    layers = np.dstack([image, mask])
    scale = np.sqrt(abs(np.linalg.det(matrix[:, :2])))
    if scale < 1:
        size = [max(1, round(scale * length)) for length in image.shape[1::-1]]
        layers = cv2.resize(layers, size, interpolation=cv2.INTER_AREA)
    shares = np.array(image.shape[1::-1]) / layers.shape[1::-1]
    linear = matrix[:, :2] * shares
    # OpenCV counts from the middles of pixels, not from their corners.
    shift = matrix[:, 2] - (left, top) + linear @ (0.5, 0.5) - 0.5
    moved = cv2.warpAffine(layers, np.column_stack([linear, shift]), (right - left, bottom - top))
    below = frame[top:bottom, left:right]
    share = moved[..., 3:].astype(np.float32) / 255
    below[:] = (below + share * (moved[..., :3] - below.astype(np.float32))).astype(np.uint8)


def _unfocused(image: np.ndarray, sample: Sample, rng: np.random.Generator) -> np.ndarray:
    """As behind what a camera is focused on."""
    side = np.sqrt(np.prod(np.array(sample.box)[2:]))
    return cv2.GaussianBlur(image, (0, 0), side * rng.uniform(*BLUR))


def _occlude(frame: np.ndarray, box: np.ndarray, rng: np.random.Generator) -> None:
    """A hand, a phone, a scarf: a patch of one colour over a part of the face."""
    size = box[2:] * rng.uniform(0.2, 0.5, 2)
    low = np.maximum(box[:2] + rng.uniform(0, 1, 2) * (box[2:] - size), 0).astype(int)
    high = (low + np.ceil(size)).astype(int)
    frame[low[1] : high[1], low[0] : high[0]] = rng.integers(0, 256, 3)
