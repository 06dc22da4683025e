"""Labelled pictures to packed training data: split, decoded once, cut and varied on the fly."""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from tqdm import tqdm

from gender_edge import images
from gender_edge.errors import GenderEdgeError, ImageError
from gender_edge.evaluation import FRAMINGS
from gender_edge.lists import read_csv, write_csv
from gender_edge.samples import LABELS, Sample
from gender_edge.spec import CropRule

from ..files import digest, replacing, write
from .augment import evaluation_crop
from .duplicates import Fingerprints, components, fingerprints, near_pairs

logger = logging.getLogger(__name__)

STORED_SIDE = 256  # px; a longer short side is averaged down to it, networks here see less
SURROUNDINGS = 3.0  # face boxes; of a larger picture no more is kept: no crop here reaches beyond
FORMAT = 2  # of what a pack stores of a picture: others are packed again
DERIVED = "derived"
PACKED = "samples.sha256"  # says of which samples a pack is; written last
HELD_OUT = ("train", "val", "test")  # a copy is dropped from the split that stands further left


def readable(samples: list[Sample]) -> list[Sample]:
    """The samples whose pictures can be decoded, and cut by the boxes and landmarks they have; the
    others are named in the log.
    """
    kept = []
    for sample in tqdm(samples, desc="read", disable=None):
        try:
            picture = images.decode(sample.read(), sample.name)
            for framing in FRAMINGS:
                _try_to_cut(picture, sample, framing)
        except GenderEdgeError as error:
            logger.warning("left out: %s", error)
        else:
            kept.append(sample)
    return kept


def _try_to_cut(picture: np.ndarray, sample: Sample, framing: str) -> None:
    try:
        evaluation_crop(picture, sample, CropRule(), 16, framing)
    except ImageError as error:
        raise ImageError(f"{sample.name}: {error}") from error


def look(samples: list[Sample]) -> Fingerprints:
    """Fingerprints of all samples' pictures."""
    return fingerprints(images.decode(s.read(), s.name) for s in samples)


def split_off(samples: list[Sample], split: str, new: str, share: float) -> list[Sample]:
    """Move about `share` of a split into a new one, whole groups at a time.

    A group is everything joined by identity, where the set knows it, or by being near-duplicates,
    so that nobody and no picture stands on both sides. Which groups move depends on the pictures
    alone, not on their order.
    """
    inside = [i for i, s in enumerate(samples) if s.split == split]
    prints = look([samples[i] for i in inside])
    groups = group([samples[i] for i in inside], near_pairs(prints, prints))
    # An order that is as good as random, the same wherever the pictures are the same.
    keys = [hashlib.sha256(h.tobytes()).digest() for h in prints.hashes]
    first: dict[int, bytes] = {}
    for key, number in zip(keys, groups):
        first[number] = min(key, first.get(number, key))
    moved, count = set(), 0
    for number in sorted(first, key=lambda g: first[g]):
        if count >= share * len(inside):
            break
        moved.add(number)
        count += int((groups == number).sum())
    result = list(samples)
    for i, g in zip(inside, groups):
        if g in moved:
            result[i] = replace(samples[i], split=new)
    return result


def group(samples: list[Sample], near: np.ndarray) -> np.ndarray:
    """A group number for every sample: of one identity, or near-duplicates, or both in a chain.

    Args:
        near: int64 (P, 2), numbers of near-duplicates.
    """
    pairs = [near]
    known: dict[str, int] = {}
    for number, sample in enumerate(samples):
        if sample.identity:
            pairs.append(np.array([[number, known.setdefault(sample.identity, number)]]))
    return components(len(samples), np.concatenate(pairs))


def drop_copies(samples: list[Sample]) -> list[Sample]:
    """Leave out of train what has a near-duplicate in val or test, and out of val what has in test.

    Test splits stay as they are, so that figures on them can be compared with others'.
    """
    known = [i for i, s in enumerate(samples) if s.split in HELD_OUT]
    rank = np.array([HELD_OUT.index(str(samples[i].split)) for i in known])
    prints = look([samples[i] for i in known])
    pairs = near_pairs(prints, prints)
    lower = pairs[rank[pairs[:, 0]] < rank[pairs[:, 1]], 0]
    dropped = {known[i] for i in lower}
    logger.info("%d pictures left out: near-duplicates of held-out ones", len(dropped))
    return [s for i, s in enumerate(samples) if i not in dropped]


class Pack:
    """Decoded pictures in one file that processes share by mapping it.

    Attributes:
        folder: where it lies.
        samples: labels, boxes and landmarks (of the stored pixels, which may be shrunk or a part).
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.samples = list(read_csv(folder / "samples.csv"))
        self._index = np.load(folder / "index.npy")  # offset, height, width
        self._pixels = np.memmap(folder / "pixels.u8", np.uint8, "r")

    def __len__(self) -> int:
        return len(self.samples)

    def digest(self) -> str:
        """Changes with what its pictures are called or labelled, wherever they lie."""
        listed = [(s.path.name, s.member, s.label) for s in self.samples]
        return hashlib.sha256(repr(listed).encode()).hexdigest()

    def faces_digest(self) -> str:
        """Changes with what is known of its faces: where they lie, ages, ethnicities."""
        listed = [(s.box, s.landmarks, s.age, s.ethnicity) for s in self.samples]
        return hashlib.sha256(repr(listed).encode()).hexdigest()

    def pixels_digest(self) -> str:
        """Changes with what its pictures show; computed once."""
        cache = self.derived("pixels.sha256")
        if not cache.exists():
            write(cache, digest(self.folder / "pixels.u8"))
        return cache.read_text()

    def derived(self, name: str) -> Path:
        """Where to keep what was computed from these pixels; it goes when they do."""
        place = self.folder / DERIVED
        place.mkdir(exist_ok=True)
        return place / name

    def fingerprints(self) -> Fingerprints:
        """What its pictures are compared by, taken of the whole pictures."""
        with np.load(self.folder / "fingerprints.npz") as kept:
            return Fingerprints(kept["hashes"], kept["thumbnails"])

    def image(self, number: int) -> np.ndarray:
        """uint8 (H, W, 3) BGR."""
        offset, height, width = (int(v) for v in self._index[number])
        return self._pixels[offset : offset + height * width * 3].reshape(height, width, 3)

    def crops(self, numbers: Iterable[int], size: int, framing: str = "landmarks") -> np.ndarray:
        """What the runtime cuts out of these pictures, uint8 (N, size, size, 3) BGR."""
        rule = CropRule()
        return np.stack(
            [evaluation_crop(self.image(i), self.samples[i], rule, size, framing) for i in numbers]
        )


def pack(samples: Iterable[Sample], folder: Path) -> Pack:
    """Decode every sample into `folder`, unless just these samples lie there already.

    Of pictures larger than networks here see, what surrounds the face is kept, else a face in a
    photograph would be a few pixels wide.
    """
    samples = list(samples)
    content = hashlib.sha256(repr((FORMAT, samples)).encode()).hexdigest()
    done = folder / PACKED
    if not done.exists() or done.read_text() != content:
        folder.mkdir(parents=True, exist_ok=True)
        done.unlink(missing_ok=True)  # of an interrupted change nothing may pass for whole
        shutil.rmtree(folder / DERIVED, ignore_errors=True)
        _fill(folder, samples)
        write(done, content)
    return Pack(folder)


def _fill(folder: Path, samples: Sequence[Sample]) -> None:
    """Write whole files: another training that runs keeps the old pixels mapped, or packs too."""
    index: list[tuple[int, ...]] = []
    stored: list[Sample] = []

    def pictures(file: BinaryIO) -> Iterator[np.ndarray]:
        """The whole ones, each written in part."""
        for sample in tqdm(samples, desc=f"pack {folder.name}", disable=None):
            whole = images.decode(sample.read(), sample.name)
            image, kept = _shrink(*_around_the_face(whole, sample))
            index.append((file.tell(), *image.shape[:2]))
            stored.append(kept)
            file.write(image.tobytes())
            yield whole

    with replacing(folder / "pixels.u8") as partial, partial.open("wb") as file:
        found = fingerprints(pictures(file))
    with replacing(folder / "fingerprints.npz") as partial:
        np.savez(partial, hashes=found.hashes, thumbnails=found.thumbnails)
    with replacing(folder / "samples.csv") as partial:
        write_csv(stored, partial)
    with replacing(folder / "index.npy") as partial:
        np.save(partial, np.array(index, np.int64))


def even_crops(packs: Sequence[Pack], count: int, size: int, seed: int = 0) -> np.ndarray:
    """Some crops of all packs and labels alike, cut as the runtime does.

    Returns:
        uint8 (about count, size, size, 3).
    """
    rng = np.random.default_rng(seed)
    each = -(-count // (len(packs) * len(LABELS)))
    crops = []
    for own in packs:
        for label in LABELS:
            members = [i for i, s in enumerate(own.samples) if s.label == label]
            if members:
                chosen = rng.choice(members, min(each, len(members)), replace=False)
                crops.append(own.crops(chosen, size))
    return np.concatenate(crops)


def _around_the_face(image: np.ndarray, sample: Sample) -> tuple[np.ndarray, Sample]:
    """What of a large picture can come into a crop of its face; all of one that is small."""
    if min(image.shape[:2]) <= STORED_SIDE or not (sample.box or sample.landmarks):
        return image, sample
    low, high = _extent(sample)
    centre, half = (low + high) / 2, SURROUNDINGS * (high - low).max() / 2
    size = image.shape[1::-1]
    left, top = (int(v) for v in np.clip(np.floor(centre - half), 0, size))
    right, bottom = (int(v) for v in np.clip(np.ceil(centre + half), 0, size))
    if right - left < 1 or bottom - top < 1:  # the face lies outside
        return image, sample
    part = np.ascontiguousarray(image[top:bottom, left:right])
    box, points = sample.box, sample.landmarks
    if box:
        box = (box[0] - left, box[1] - top, *box[2:])
    if points:
        points = tuple((x - left, y - top) for x, y in points)
    return part, replace(sample, box=box, landmarks=points)


def _extent(sample: Sample) -> np.ndarray:
    """Corners of a face's box, float (2, 2), upper left and lower right; by its landmarks, which
    lie within the middle half of a face, where there is no box.
    """
    if sample.box:
        x, y, width, height = sample.box
        return np.array([(x, y), (x + width, y + height)])
    points = np.array(sample.landmarks)
    low, high = points.min(0), points.max(0)
    return np.array([low - (high - low) / 2, high + (high - low) / 2])


def _shrink(image: np.ndarray, sample: Sample) -> tuple[np.ndarray, Sample]:
    scale = STORED_SIDE / min(image.shape[:2])
    if scale >= 1:
        return image, sample
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    box = sample.box and tuple(v * scale for v in sample.box)
    points = sample.landmarks and tuple((x * scale, y * scale) for x, y in sample.landmarks)
    return small, replace(sample, box=box, landmarks=points)
