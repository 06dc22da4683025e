"""A picture of what was found in one split, to judge by eye whether it is rightly doubted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from gender_edge.samples import LABELS

from .findings import LABEL, Finding, Pictures

MOST = 96  # findings of a reason on a sheet
COLUMNS, SIDE, LINE = 12, 112, 13  # pictures a row; px of a picture and of a line of text
PAPER, INK = (255, 255, 255), (0, 0, 0)


def draw(pictures: Pictures, found: Sequence[Finding], done: str, path: Path) -> None:
    """Write a PNG: by reason, the findings of lowest score first; a copy beside its original.

    Args:
        done: what becomes of them, a word for the headings.
    """
    sheet = [np.full((LINE, COLUMNS * SIDE, 3), PAPER, np.uint8)]
    for reason in dict.fromkeys(f.reason for f in found):
        own = sorted((f for f in found if f.reason == reason), key=lambda f: f.score)
        shown = own[:MOST]
        heading = np.full((3 * LINE, COLUMNS * SIDE, 3), PAPER, np.uint8)
        _write(heading, f"\n{reason}, {done}: {len(shown)} of {len(own)}", 1.2)
        sheet += [heading, *_rows([_tile(pictures, f) for f in shown])]
    cv2.imwrite(str(path), np.vstack(sheet))


def _rows(tiles: list[np.ndarray]) -> list[np.ndarray]:
    blank, each = np.full_like(tiles[0], PAPER[0]), COLUMNS * SIDE // tiles[0].shape[1]
    tiles = tiles + [blank] * (-len(tiles) % each)
    return [np.hstack(tiles[i : i + each]) for i in range(0, len(tiles), each)]


def _tile(pictures: Pictures, finding: Finding) -> np.ndarray:
    """One or two pictures above three lines of text."""
    sample, source = pictures.samples[finding.number], pictures.source(finding.number)
    shown = [_fitted(pictures.image(finding.number))]
    if finding.reason == LABEL:
        suggested = LABELS[1 - LABELS.index(sample.label)]
        verdict = f"{suggested}? {1 - finding.score:.3f}"
    elif finding.other is not None:
        shown.append(_fitted(pictures.image(finding.other)))
        verdict = f"{finding.score:.3f} like {pictures.source(finding.other).list}"
    else:
        verdict = ""
    text = np.full((3 * LINE + 4, SIDE * len(shown), 3), PAPER, np.uint8)
    _write(text, f"{source.split}: {sample.label}\n{verdict}\n{Path(sample.name).name}", 0.8)
    return np.vstack([np.hstack(shown), text])


def _fitted(image: np.ndarray) -> np.ndarray:
    """The whole picture, shrunk into a square of `SIDE`."""
    scale = (SIDE - 4) / max(image.shape[:2])
    width, height = (max(1, round(scale * side)) for side in image.shape[1::-1])
    square = np.full((SIDE, SIDE, 3), PAPER, np.uint8)
    square[2 : 2 + height, 2 : 2 + width] = cv2.resize(
        image, (width, height), interpolation=cv2.INTER_AREA
    )
    return square


def _write(place: np.ndarray, text: str, size: float) -> None:
    for number, line in enumerate(text.split("\n"), start=1):
        where = (2, number * LINE)
        cv2.putText(place, line, where, cv2.FONT_HERSHEY_PLAIN, size, INK, 1, cv2.LINE_AA)
