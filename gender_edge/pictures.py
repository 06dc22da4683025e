"""Picture files to rows, for `gender-edge classify`: each file a face, or each face found in it."""

from __future__ import annotations

import glob
import json
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np

from . import images
from .classifier import Classifier, Prediction
from .errors import DataError, ImageError
from .faces import Detector, Faces, as_faces, by_landmarks_or_box
from .labelled import IMAGE_SUFFIXES, is_image, list_images

logger = logging.getLogger(__name__)

_BREAKS = {ord(sign): sign.encode("unicode_escape").decode() for sign in "\t\n\r"}


@dataclass(frozen=True)
class Row:
    """One face of a picture, or the picture itself where none was found or it cannot be read.

    Attributes:
        path: of the picture, as it was named.
        answer: of the classifier; an error if the picture or face cannot be read; None where no
            face was found.
        box: x, y, width, height in pixels, where the face was found.
        unaligned: why its landmarks would not do and it was cut by its box; empty if it was not.
    """

    path: str
    answer: Union[Prediction, ImageError, None]
    box: Optional[list[float]] = None
    unaligned: str = ""

    def as_json(self) -> str:
        """One line of JSON."""
        row: dict[str, Any] = {"path": self.path}
        if isinstance(self.answer, Prediction):
            female, confidence = round(self.answer.female, 5), round(self.answer.confidence, 5)
            row |= {"label": self.answer.label, "female": female, "confidence": confidence}
        elif self.answer is None:
            row |= {"faces": 0}
        else:
            row |= {"error": str(self.answer)}
        if self.box is not None:
            row |= {"box": [round(v, 1) for v in self.box]}
        if self.unaligned:
            row |= {"unaligned": self.unaligned}
        return json.dumps(row)

    def __str__(self) -> str:
        if isinstance(self.answer, Prediction):
            own = self.answer
            cells = [own.label or "abstained", f"female {own.female:.3f}"]
            cells.append(f"confidence {own.confidence:.3f}")
        else:
            cells = ["no face"] if self.answer is None else ["error", str(self.answer)]
        place = [] if self.box is None else ["box " + ",".join(f"{v:.0f}" for v in self.box)]
        note = ["cut by its box"] if self.unaligned else []
        line = [self.path, *cells, *place, *note]
        return "\t".join(cell.translate(_BREAKS) for cell in line)  # a name may hold any of them


def crops(classifier: Classifier, paths: Sequence[str]) -> Iterator[Row]:
    """One row per file, which is a face crop."""
    for start in range(0, len(paths), classifier.batch_size):
        batch = paths[start : start + classifier.batch_size]
        yield from map(Row, batch, classifier(batch, errors="return"))


def boxed(classifier: Classifier, paths: Iterable[str], box: list[float]) -> Iterator[Row]:
    """One row per file, whose face is in a box of x, y, width, height in pixels."""
    for path in paths:
        (answer,) = classifier.classify_cuts([partial(classifier.crop, path, box=box)], "return")
        yield Row(path, answer)


def found(classifier: Classifier, paths: Iterable[str], detector: Detector) -> Iterator[Row]:
    """One row per face that a detector finds in a file, and one for a file without."""
    unaligned = 0
    for path in paths:
        try:
            picture = images.load(path)
            faces = as_faces(detector(picture))
        except ImageError as error:
            yield Row(path, error)
            continue
        if not len(faces):
            yield Row(path, None)
        for row in _answered(classifier, path, picture, faces):
            if row.unaligned:
                unaligned += 1
                level = logging.WARNING if unaligned == 1 else logging.DEBUG
                logger.log(level, "%s: a face is cut by its box: %s", path, row.unaligned)
            yield row


def _answered(
    classifier: Classifier, path: str, picture: np.ndarray, faces: Faces
) -> Iterator[Row]:
    """One row per face of a picture, which are classified together."""
    unaligned = [""] * len(faces)

    def cut(number: int) -> np.ndarray:
        crop, unaligned[number] = by_landmarks_or_box(
            partial(classifier.crop, picture), faces, number
        )
        return crop

    answers = classifier.classify_cuts((partial(cut, n) for n in range(len(faces))), "return")
    for answer, box, why in zip(answers, faces.boxes.tolist(), unaligned):
        yield Row(path, answer, box, why)


def listed(inputs: Iterable[str]) -> Iterator[str]:
    """Files as they are named (their errors become rows); folders and globs by image suffix.

    Raises:
        DataError: a folder or glob holds none.
    """
    for text in inputs:
        # By os.path: Path's may raise before Python 3.14, and Path("") is the present folder.
        if os.path.isdir(text):  # noqa: PTH112
            files = [str(p) for p in list_images(Path(text))]
        elif glob.has_magic(text) and not os.path.exists(text):  # noqa: PTH110
            matches = glob.glob(text, recursive=True)  # noqa: PTH207  (Path.glob: relative only)
            files = [p for p in sorted(matches) if is_image(Path(p))]
        else:
            files = [text]
        if not files:
            raise DataError(f"{text}: no pictures there ({', '.join(sorted(IMAGE_SUFFIXES))})")
        yield from files
