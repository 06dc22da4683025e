"""Answers about pictures, kept by what the pictures are: whoever shows the same ones again, in
another training or after an interruption, need not ask again.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

RECORD = np.dtype([("picture", "<u8"), ("logits", "<f4", (2,))])

logger = logging.getLogger(__name__)


class KeptAnswers:
    """A function from pictures, uint8 (N, S, S, 3), to logits, float32 (N, 2), with a file of what
    it said.

    Trainings may add to one file at the same time, batch by batch; each learns of what others added
    when it begins. A record that a killed one left half written is cut off then.
    """

    def __init__(self, file: Path, ask: Callable[[np.ndarray], np.ndarray]) -> None:
        self._file, self._ask = file, ask
        file.parent.mkdir(parents=True, exist_ok=True)
        content = file.read_bytes() if file.exists() else b""
        whole = len(content) - len(content) % RECORD.itemsize
        if whole < len(content):
            os.truncate(file, whole)
        records = np.frombuffer(content[:whole], RECORD)
        self._known = dict(zip(records["picture"].tolist(), map(tuple, records["logits"].tolist())))
        logger.info("%s: %d answers", file, len(self._known))

    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        """Logits, float32 (N, 2); only pictures that were never seen are asked about."""
        keys = [_key(picture) for picture in pictures]
        new = {key: place for place, key in enumerate(keys) if key not in self._known}
        if new:
            logits = self._ask(pictures[list(new.values())])
            records = np.zeros(len(new), RECORD)
            records["picture"], records["logits"] = list(new), logits
            with self._file.open("ab") as file:
                file.write(records.tobytes())
            self._known.update(zip(new, map(tuple, logits.tolist())))
        return np.array([self._known[key] for key in keys], np.float32)


def _key(picture: np.ndarray) -> int:
    content = np.ascontiguousarray(picture).data
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")
