"""What was found in labelled sets, and the list of it that `clean` writes and recipes read."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import numpy as np

from gender_edge.errors import DataError
from gender_edge.samples import Sample

from ..files import replacing
from ..recipe import Source
from .duplicates import Fingerprints
from .packs import Pack

FOLDER = "clean"  # of RUNS, unless `clean` is told another
NAME, NOISE, REPORT = "findings.csv", "noise.json", "report.md"
COLUMNS = ("set", "split", "picture", "label", "reason", "score", "other", "drop")
COPY, NEAR_COPY, NO_FACE, LABEL = REASONS = ("copy", "near copy", "no face", "label")


@dataclass(frozen=True)
class Finding:
    """One thing that looks wrong with one picture.

    Attributes:
        number: of the picture.
        reason: one of `REASONS`.
        score: for copies the correlation of thumbnails, for a label its cross-validated
            probability, 0 for a picture without a face. The lowest come first.
        other: number of the picture that it is a copy of, or of a copy with another label.
    """

    number: int
    reason: str
    score: float = 0.0
    other: Optional[int] = None


class Pictures:
    """The pictures of several packs, numbered through.

    Attributes:
        sources: which split of which set each pack is.
        packs: in the same order.
        samples: of all packs, N of them.
        part: int64 (N,), the place of each one's pack.
    """

    def __init__(self, packs: Mapping[Source, Pack]) -> None:
        self.sources, self.packs = list(packs), list(packs.values())
        self.samples: list[Sample] = [s for p in self.packs for s in p.samples]
        self._starts = np.cumsum([0] + [len(p) for p in self.packs])
        self.part = np.repeat(np.arange(len(packs)), np.diff(self._starts))

    def __len__(self) -> int:
        return len(self.samples)

    def source(self, number: int) -> Source:
        """Where a picture is from."""
        return self.sources[self.part[number]]

    def image(self, number: int) -> np.ndarray:
        """uint8 (H, W, 3) BGR."""
        part = self.part[number]
        return self.packs[part].image(number - int(self._starts[part]))

    def fingerprints(self) -> Fingerprints:
        """Of all pictures."""
        each = [p.fingerprints() for p in self.packs]
        return Fingerprints(
            np.concatenate([f.hashes for f in each]), np.concatenate([f.thumbnails for f in each])
        )


def write(pictures: Pictures, found: Iterable[Finding], trained: np.ndarray, path: Path) -> None:
    """Write findings in their order, one a row; whole, because a list cut short would read as one.

    Args:
        trained: bool (N,), which pictures are trained on: those get a 1 in the column drop.
    """
    with replacing(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for f in found:
            source, sample = pictures.source(f.number), pictures.samples[f.number]
            other = "" if f.other is None else pictures.samples[f.other].name
            shown = source.list, source.split, sample.name, sample.label
            writer.writerow([*shown, f.reason, f"{f.score:.4f}", other, int(trained[f.number])])


def dropped(path: Path, source: Source) -> set[str]:
    """Names of the pictures of one split of one set that a list says to leave out.

    Raises:
        DataError: there is no such list, or it is something else.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such list of findings; make it with `python -m export clean`")
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise DataError(
                f"{path}: columns {reader.fieldnames}, expected {', '.join(COLUMNS)}; make it with "
                "`python -m export clean`"
            )
        own = (row for row in reader if (row["set"], row["split"]) == (source.list, source.split))
        return {row["picture"] for row in own if row["drop"] == "1"}


def label_noise(folder: Path) -> dict[str, float]:
    """The share of wrong labels by "SET:SPLIT", as `python -m export clean` estimated it into a
    folder; nothing where it did not.
    """
    file = folder / NOISE
    if not file.is_file():
        return {}
    found = json.loads(file.read_text(encoding="utf-8"))
    return {name: float(row["noise"]) for name, row in found.items()}
