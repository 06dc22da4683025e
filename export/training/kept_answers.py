"""Answers about pictures, kept by what the pictures are: another training that shows the same ones,
or the same one after an interruption, need not ask again.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Optional

import numpy as np

RECORD = np.dtype([("picture", "<u8"), ("logits", "<f4", (2,))])

logger = logging.getLogger(__name__)


class KeptAnswers:
    """A function from pictures, uint8 (N, S, S, 3), to logits, float32 (N, 2), with a file of what
    it said.

    It knows what was in the file when it began; a training shows no picture twice. Several may add
    to one file at the same time, batch by batch. A record that a killed one left half written is
    cut off by the next. Where there is no room for the file, a warning says so, and all are asked.
    """

    def __init__(self, file: Path, ask: Callable[[np.ndarray], np.ndarray]) -> None:
        self._ask = ask
        self._file: Optional[Path] = file
        records = np.zeros(0, RECORD)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
            os.truncate(file, file.stat().st_size // RECORD.itemsize * RECORD.itemsize)
            records = np.fromfile(file, RECORD)
        except OSError as error:
            self._lose(error)
        _, first = np.unique(records["picture"], return_index=True)
        self._known = records[first]  # in rising order of pictures
        logger.info("%s: %d answers", file, len(self._known))

    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        """Logits, float32 (N, 2); only of new pictures it is asked."""
        keys = np.array([_key(picture) for picture in pictures], np.uint64)
        places = np.searchsorted(self._known["picture"], keys)
        found = np.zeros(len(keys), RECORD)
        found["picture"] = keys
        inside = places < len(self._known)
        found["logits"][inside] = self._known["logits"][places[inside]]
        new = ~inside
        new[inside] = self._known["picture"][places[inside]] != keys[inside]
        if new.any():
            found["logits"][new] = self._ask(pictures[new])
            self._add(found[new])
        return found["logits"].copy()

    def _add(self, records: np.ndarray) -> None:
        try:
            if self._file is not None:
                with self._file.open("ab") as file:
                    file.write(records.tobytes())
        except OSError as error:
            self._lose(error)

    def _lose(self, error: OSError) -> None:
        logger.warning("%s: answers are not kept (%s), others will have to ask", self._file, error)
        self._file = None


def _key(picture: np.ndarray) -> int:
    content = np.ascontiguousarray(picture).data
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")
