"""Labelled pictures to packed training data: split, decoded once, cut and varied on the fly."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from gender_edge import images
from gender_edge.labelled import Sample, read_csv, write_csv

STORED_SIDE = 256  # px; a longer short side is averaged down to it, networks here see less
HASH_DISTANCE = 4  # of 64 bits; closer pictures count as one (checked by eye on these sets)


def split_off(samples: list[Sample], split: str, new: str, share: float) -> list[Sample]:
    """Move about `share` of a split into a new one, whole groups at a time.

    Groups are identities where the set knows them, else clusters of near-duplicates, so that
    nobody and no picture stands on both sides. Which groups move depends on their content alone,
    not on their order.
    """
    inside = [i for i, s in enumerate(samples) if s.split == split]
    groups = group([samples[i] for i in inside])
    generator = np.random.default_rng(0)
    order = generator.permutation(np.unique(groups))
    sizes = np.bincount(groups)[order]
    moved = set(order[: int(np.searchsorted(np.cumsum(sizes), share * len(inside))) + 1])
    result = list(samples)
    for i, g in zip(inside, groups):
        if g in moved:
            result[i] = replace(samples[i], split=new)
    return result


def group(samples: list[Sample]) -> np.ndarray:
    """A group number for every sample: one identity, or one cluster of near-duplicates."""
    if all(s.identity for s in samples):
        return np.unique([str(s.identity) for s in samples], return_inverse=True)[1]
    hashes = np.array([difference_hash(images.decode(s.read(), s.name)) for s in samples])
    return cluster(hashes, HASH_DISTANCE)


def difference_hash(image: np.ndarray) -> np.ndarray:
    """64-bit dHash (Krawetz 2013) as 8 bytes: signs of horizontal differences at 9x8 pixels."""
    gray = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    small = cv2.resize(gray, (9, 8), interpolation=cv2.INTER_AREA)
    return np.packbits(small[:, 1:] > small[:, :-1])


def cluster(hashes: np.ndarray, distance: int) -> np.ndarray:
    """Connected components of 64-bit hashes (N, 8) that lie within `distance` bits."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    bits = np.unpackbits(hashes, axis=1).astype(np.float32)
    ones = bits.sum(1)
    rows, columns = [], []
    for start in range(0, len(bits), 1024):
        part = bits[start : start + 1024]
        apart = ones[start : start + 1024, None] + ones[None] - 2 * part @ bits.T
        near = np.nonzero(apart <= distance)
        rows.append(near[0] + start)
        columns.append(near[1])
    pairs = (np.concatenate(rows), np.concatenate(columns))
    graph = coo_array((np.ones(len(pairs[0]), bool), pairs), shape=(len(bits),) * 2)
    return connected_components(graph, directed=False)[1]


class Pack:
    """Decoded pictures in one file that processes share by mapping it.

    Attributes:
        samples: labels and landmarks (of the stored, possibly shrunk, pixels).
    """

    def __init__(self, folder: Path) -> None:
        self.samples = list(read_csv(folder / "samples.csv"))
        self._index = np.load(folder / "index.npy")  # offset, height, width
        self._pixels = np.memmap(folder / "pixels.u8", np.uint8, "r")

    def __len__(self) -> int:
        return len(self.samples)

    def image(self, number: int) -> np.ndarray:
        """uint8 (H, W, 3) BGR."""
        offset, height, width = (int(v) for v in self._index[number])
        return self._pixels[offset : offset + height * width * 3].reshape(height, width, 3)


def pack(samples: Iterable[Sample], folder: Path) -> Pack:
    """Decode every sample into `folder`, unless that was done already."""
    samples = list(samples)
    if not (folder / "index.npy").exists():
        folder.mkdir(parents=True, exist_ok=True)
        index, stored, offset = [], [], 0
        with (folder / "pixels.u8").open("wb") as file:
            for sample in tqdm(samples, desc=f"pack {folder.name}", disable=None):
                image, kept = _shrink(images.decode(sample.read(), sample.name), sample)
                file.write(image.tobytes())
                index.append((offset, *image.shape[:2]))
                stored.append(kept)
                offset += image.size
        write_csv(stored, folder / "samples.csv")
        np.save(folder / "index.npy", np.array(index, np.int64))  # last: marks a whole pack
    return Pack(folder)


def _shrink(image: np.ndarray, sample: Sample) -> tuple[np.ndarray, Sample]:
    scale = STORED_SIDE / min(image.shape[:2])
    if scale >= 1:
        return image, sample
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    box = sample.box and tuple(v * scale for v in sample.box)
    points = sample.landmarks and tuple((x * scale, y * scale) for x, y in sample.landmarks)
    return small, replace(sample, box=box, landmarks=points)
