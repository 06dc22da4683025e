"""Labelled lists: CSV files with one row per picture."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

from .errors import DataError
from .samples import Sample, parse_label

SPLITS = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}


def read_csv(path: Path) -> Iterator[Sample]:
    """A list with columns path|file and label|gender; optional zip, split, identity, age, race,
    box ("x y w h") and landmarks (ten numbers). Paths are relative to the list.
    """
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        columns = set(reader.fieldnames or ())
        path_column = next((c for c in ("path", "file") if c in columns), None)
        label_column = next((c for c in ("label", "gender") if c in columns), None)
        if path_column is None or label_column is None:
            raise DataError(
                f"{path}: columns {sorted(columns)}; expected path (or file) and label (or gender)"
            )
        for number, row in enumerate(reader, start=2):
            archive, picture = row.get("zip"), row[path_column]
            if not picture:
                raise DataError(f"{path}:{number}: no path; every row needs one")
            yield Sample(
                path=path.parent / (archive or picture),
                member=picture if archive else None,
                label=parse_label(row[label_column] or "", f"{path}:{number}"),
                split=split_named(row.get("split")),
                identity=row.get("identity") or None,
                age=_number(row.get("age"), f"{path}:{number}"),
                ethnicity=row.get("race") or row.get("ethnicity") or None,
                box=_numbers(row.get("box"), 4, f"{path}:{number}"),
                landmarks=_points(row.get("landmarks"), f"{path}:{number}"),
            )


def split_named(text: Optional[str]) -> Optional[str]:
    """A split's name in one spelling; other words of a data set stay as they are."""
    return SPLITS.get(text.strip().lower(), text) if text else None


def _numbers(text: Optional[str], count: int, where: str) -> Optional[tuple[float, ...]]:
    if not text:
        return None
    try:
        values = tuple(float(v) for v in text.split())
    except ValueError:
        values = ()
    if len(values) != count:
        raise DataError(f"{where}: {text!r}; expected {count} number(s) separated by spaces")
    return values


def _number(text: Optional[str], where: str) -> Optional[float]:
    values = _numbers(text, 1, where)
    return None if values is None else values[0]


def _points(text: Optional[str], where: str) -> Optional[tuple[tuple[float, float], ...]]:
    values = _numbers(text, 10, where)
    return None if values is None else tuple(zip(values[::2], values[1::2]))


def write_csv(samples: list[Sample], path: Path) -> None:
    """Write a list that `read_csv` reads back: paths made absolute, pixels to a hundredth."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["zip", "path", "label", "split", "identity", "age", "race", "box", "landmarks"]
        )
        for s in samples:
            where = str(s.path.resolve())
            points = " ".join(f"{v:.2f}" for point in s.landmarks or () for v in point)
            box = " ".join(f"{v:.2f}" for v in s.box or ())
            location = (where, s.member) if s.member else ("", where)
            age = "" if s.age is None else f"{s.age:g}"
            writer.writerow(
                [*location, s.label, s.split, s.identity, age, s.ethnicity, box, points]
            )
