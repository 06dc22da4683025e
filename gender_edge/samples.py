"""A labelled picture, and the two labels."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Optional

import numpy as np

from .errors import DataError

try:
    from lzma import LZMAError
except ImportError:  # a Python without it cannot open such members
    LZMAError = zlib.error  # type: ignore[misc, assignment]

LABELS = ("female", "male")
SPELLINGS = {  # of the labels
    **dict.fromkeys(("female", "f", "woman", "women", "girl", "girls", "females"), "female"),
    **dict.fromkeys(("male", "m", "man", "men", "boy", "boys", "males"), "male"),
}

# What zipfile and zlib raise of members that are missing, damaged, encrypted or oddly packed.
_READ_ERRORS = (
    OSError,
    KeyError,
    ValueError,
    RuntimeError,
    NotImplementedError,
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    LZMAError,
)


@dataclass(frozen=True)
class Sample:
    """One labelled picture, not yet opened.

    Attributes:
        path: the image file, or the ZIP file that holds it.
        member: name inside that ZIP file, or None.
        label: "female" or "male", the binary label of the data set.
        split: "train", "val", "test" or another word of the data set; None where it has none.
        identity: who is shown, where the data set says.
        age: years, where the data set says.
        ethnicity: as the data set words it.
        box: face box x, y, width, height in pixels, where known.
        landmarks: five points (x, y) in pixels, where known.
    """

    path: Path
    label: str
    member: Optional[str] = None
    split: Optional[str] = None
    identity: Optional[str] = None
    age: Optional[float] = None
    ethnicity: Optional[str] = None
    box: Optional[tuple[float, ...]] = None
    landmarks: Optional[tuple[tuple[float, float], ...]] = None

    @property
    def name(self) -> str:
        """What reports call it."""
        return f"{self.path.name}/{self.member}" if self.member else str(self.path)

    def read(self) -> bytes:
        """The encoded bytes of the picture.

        Raises:
            DataError: the file or the ZIP member is not there.
        """
        try:
            if self.member is None:
                return self.path.read_bytes()
            return _archive(self.path).read(self.member)
        except _READ_ERRORS as error:
            raise DataError(f"{self.name}: cannot be read ({error}); check the list") from error

    def landmark_array(self) -> Optional[np.ndarray]:
        """Landmarks as float64 (5, 2), or None."""
        return None if self.landmarks is None else np.asarray(self.landmarks, np.float64)


@lru_cache(maxsize=16)
def _archive(path: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(path)


def parse_label(text: str, source: object) -> str:
    """'female' or 'male' from the usual spellings.

    Digits are refused: 1 is male in half of all lists and female in the other half.
    """
    label = SPELLINGS.get(text.strip().lower())
    if label is None:
        raise DataError(f"{source}: label {text!r}; expected one of {', '.join(sorted(SPELLINGS))}")
    return label
