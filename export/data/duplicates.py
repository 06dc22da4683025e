"""Near-duplicates: the same photograph again, resized, recompressed or relit.

A perceptual hash proposes pairs and the correlation of thumbnails confirms them: the hash alone
joins different people who look into the camera alike.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np

HASH_DISTANCE = 4  # of 64 bits
CORRELATION = 0.97  # of thumbnails; checked by eye on pairs of the shared sets
THUMBNAIL = 32  # px
CHUNK = 1024  # rows compared at once: 1024 x 50,000 floats are 200 MB


@dataclass(frozen=True)
class Fingerprints:
    """What pictures are compared by.

    Attributes:
        hashes: uint8 (N, 8), 64-bit dHash (Krawetz 2013): signs of horizontal differences.
        thumbnails: float32 (N, 1024), grey, of zero mean and unit length.
    """

    hashes: np.ndarray
    thumbnails: np.ndarray

    def __len__(self) -> int:
        return len(self.hashes)


def fingerprints(pictures: Iterable[np.ndarray]) -> Fingerprints:
    """Fingerprints of uint8 (H, W, 3) pictures."""
    hashes, thumbnails = [], []
    for picture in pictures:
        gray = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
        small = cv2.resize(gray, (9, 8), interpolation=cv2.INTER_AREA)
        hashes.append(np.packbits(small[:, 1:] > small[:, :-1]))
        thumbnail = cv2.resize(gray, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
        flat = thumbnail.astype(np.float32).ravel()
        flat -= flat.mean()
        thumbnails.append(flat / max(float(np.linalg.norm(flat)), 1e-6))
    return Fingerprints(
        np.array(hashes, np.uint8).reshape(-1, 8),
        np.array(thumbnails, np.float32).reshape(-1, THUMBNAIL**2),
    )


def near_pairs(first: Fingerprints, second: Fingerprints) -> np.ndarray:
    """Numbers (i, j) of near-duplicates, i in `first` and j in `second`; int64 (P, 2)."""
    bits = [np.unpackbits(f.hashes, axis=1).astype(np.float32) for f in (first, second)]
    ones = bits[1].sum(1)
    pairs = []
    for start in range(0, len(first), CHUNK):
        part = bits[0][start : start + CHUNK]
        apart = part.sum(1, keepdims=True) + ones - 2 * part @ bits[1].T
        rows, columns = np.nonzero(apart <= HASH_DISTANCE)
        rows += start
        likeness = np.einsum("ij,ij->i", first.thumbnails[rows], second.thumbnails[columns])
        pairs.append(np.stack([rows, columns], 1)[likeness >= CORRELATION])
    return np.concatenate(pairs) if pairs else np.empty((0, 2), np.int64)


def components(count: int, pairs: np.ndarray) -> np.ndarray:
    """Group numbers (count,) of things joined by pairs, directly or through others."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    edges = (np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1]))
    groups: np.ndarray = connected_components(coo_array(edges, shape=(count, count)))[1]
    return groups
