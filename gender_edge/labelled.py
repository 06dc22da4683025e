"""Readers of labelled face collections: anything with a picture and one of two labels.

A reader turns a folder or list into `Sample`s and opens no picture. Nothing is split or cleaned
here: that is the workshop's.
"""

from __future__ import annotations

import csv
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Callable, Optional

from .errors import DataError
from .lists import SPLITS, read_csv, split_named
from .samples import LABELS, SPELLINGS, Sample

logger = logging.getLogger("gender_edge")

STRAY = 0.9  # share of a folder's pictures: with more of them left out it is read as what it is not
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}


def read_labelled(source: str | Path, split: Optional[str] = None) -> list[Sample]:
    """Read a labelled folder or list, recognising its form.

    Forms: a CSV with columns path (or file, with an optional zip) and label (or gender); a folder
    with one folder per class; UTKFace's file names; CelebA's `list_attr_celeba.txt`; LFW's folders
    of one person each with `male_names.txt` and `female_names.txt`.

    Args:
        split: keep only this split.

    Raises:
        DataError: nothing readable there, with the forms that would be.
    """
    if not str(source):  # as a Path it would be the present folder
        raise DataError("no folder or list is named; name one, or . for the present folder")
    path = Path(source)
    reader = _reader_of(path)
    try:
        samples = [s for s in reader(path) if split is None or s.split == split_named(split)]
    except DataError:
        raise
    except (OSError, csv.Error, ValueError, TypeError, IndexError) as error:
        raise DataError(f"{path}: cannot be read as a labelled list ({error}); check it") from error
    if not samples:
        wanted = f" of split {split!r}" if split else ""
        raise DataError(f"{path}: no labelled pictures{wanted}; check the folder or the list")
    return samples


def _reader_of(path: Path) -> Callable[[Path], Iterator[Sample]]:
    if path.is_file():
        return read_csv
    if not path.is_dir():
        raise DataError(f"{path}: no such file or folder; check the path")
    if _celeba_part(path, "list_attr_celeba.txt").exists():
        return read_celeba
    if (path / "male_names.txt").exists() and (path / "female_names.txt").exists():
        return read_lfw
    if any(place.name.lower() in SPELLINGS for place, _ in _walk(path) if place != path):
        return read_folders
    if any(_UTKFACE.match(p.name) for p in list_images(path)):
        return read_utkface
    raise DataError(
        f"{path}: not a labelled folder; expected folders named female/ and male/, UTKFace file "
        "names, CelebA's list_attr_celeba.txt, LFW's male_names.txt and female_names.txt, or a CSV "
        "file with columns path,label"
    )


def is_image(path: Path) -> bool:
    """Whether it is a file with a picture's suffix."""
    return path.suffix.lower() in IMAGE_SUFFIXES and os.path.isfile(path)  # noqa: PTH113  (never raises)


def list_images(folder: Path) -> Iterator[Path]:
    """All pictures below a folder, in order of their paths; folders that are links count too, what
    macOS puts beside pictures in archives (`__MACOSX`, `._NAME`) does not.

    Raises:
        DataError: a folder cannot be read.
    """
    found = (place / name for place, files in _walk(folder) for name in files)
    return (p for p in sorted(found) if is_image(p))


def _walk(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """It and all folders below, links too, and what files each has."""
    seen = set()  # a link may lead back up
    for place, folders, files in os.walk(folder, onerror=_unreadable, followlinks=True):
        seen.add(os.path.realpath(place))
        folders[:] = [
            f for f in folders if f != "__MACOSX" and os.path.realpath(Path(place, f)) not in seen
        ]
        yield Path(place), [name for name in files if not name.startswith("._")]


def _unreadable(error: OSError) -> None:
    raise DataError(f"{error.filename}: {error.strerror}; make it readable, or move it elsewhere")


def read_folders(path: Path) -> Iterator[Sample]:
    """One folder per class: [train|val|test/]female/..., male/...; the innermost class name counts.

    Raises:
        DataError: nearly all pictures lie in no such folder; of fewer a warning tells.
    """

    def read(image: Path) -> Optional[Sample]:
        parts = [p.lower() for p in image.relative_to(path).parts[:-1]]
        label = next((SPELLINGS[p] for p in reversed(parts) if p in SPELLINGS), None)
        split = next((SPLITS[p] for p in parts if p in SPLITS), None)
        return None if label is None else Sample(path=image, label=label, split=split)

    return _most(path, read, "lie in no folder named female or male, or by the usual other words")


_UTKFACE = re.compile(r"(\d{1,3})_([01])_([0-4])_.*\.(jpe?g|png|webp)$", re.IGNORECASE)
_UTKFACE_ETHNICITY = ("White", "Black", "Asian", "Indian", "Other")


def read_utkface(path: Path) -> Iterator[Sample]:
    """UTKFace: age_gender_ethnicity_date.jpg with gender 0 male, 1 female.

    Raises:
        DataError: nearly all pictures are not named so; of fewer a warning tells.
    """

    def read(image: Path) -> Optional[Sample]:
        match = _UTKFACE.match(image.name)
        if match is None:
            return None
        age, gender, ethnicity = match.group(1), match.group(2), match.group(3)
        return Sample(
            path=image,
            label="male" if gender == "0" else "female",
            age=float(age),
            ethnicity=_UTKFACE_ETHNICITY[int(ethnicity)],
        )

    return _most(path, read, "are not named age_gender_ethnicity_date")


def _most(path: Path, read: Callable[[Path], Optional[Sample]], otherwise: str) -> Iterator[Sample]:
    """The samples of a folder's pictures; those that give none are not left out in silence."""
    images = list(list_images(path))
    samples = [read(image) for image in images]
    stray = [image for image, sample in zip(images, samples) if sample is None]
    if stray:
        said = (
            f"{path}: {len(stray)} of {len(images)} pictures {otherwise}, the first is {stray[0]}"
        )
        if len(stray) > STRAY * len(images):
            raise DataError(f"{said}; rename what is misnamed, or move them elsewhere")
        logger.warning("%s; they are left out", said)
    return (sample for sample in samples if sample is not None)


def read_celeba(path: Path) -> Iterator[Sample]:
    """CelebA: list_attr_celeba.txt (column Male, 1 or -1), with list_eval_partition.txt,
    identity_CelebA.txt and list_landmarks_align_celeba.txt where they are there; all in one folder,
    or as it is published in Anno/, Eval/ and Img/.
    """
    attributes = _celeba_part(path, "list_attr_celeba.txt").read_text().splitlines()
    male = attributes[1].split().index("Male") + 1
    partition = _celeba_table(_celeba_part(path, "list_eval_partition.txt"))
    identity = _celeba_table(_celeba_part(path, "identity_CelebA.txt"))
    landmarks = _celeba_table(_celeba_part(path, "list_landmarks_align_celeba.txt"))
    folder = _celeba_part(path, "img_align_celeba")
    folder = folder if folder.is_dir() else path
    for line in attributes[2:]:
        columns = line.split()
        name = columns[0]
        points = [float(v) for v in landmarks.get(name, ())]
        yield Sample(
            path=folder / name,
            label="male" if columns[male] == "1" else "female",
            split={"0": "train", "1": "val", "2": "test"}.get("".join(partition.get(name, ()))),
            identity="".join(identity.get(name, ())) or None,
            landmarks=tuple(zip(points[::2], points[1::2])) if len(points) == 10 else None,
        )


def _celeba_part(path: Path, name: str) -> Path:
    places = (path / part / name for part in ("", "Anno", "Eval", "Img"))
    return next((p for p in places if p.exists()), path / name)


def _celeba_table(path: Path) -> dict[str, list[str]]:
    if not path.exists():
        return {}
    rows = (line.split() for line in path.read_text().splitlines())
    return {row[0]: row[1:] for row in rows if len(row) > 1 and row[0].endswith(".jpg")}


def read_lfw(path: Path) -> Iterator[Sample]:
    """LFW: one folder per person, and male_names.txt and female_names.txt listing image names."""
    for label in LABELS:
        for name in (path / f"{label}_names.txt").read_text().split():
            person = re.sub(r"_\d+\.\w+$", "", name)
            yield Sample(path=path / person / name, label=label, identity=person)
