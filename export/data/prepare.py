"""Labelled sets made ready for a recipe: faces found, splits there, copies left out, packed.

    RUNS/data/NAME/annotated.csv   labels, splits, boxes, landmarks   RUNS/data/NAME-SPLIT/   pixels

What was made of other pictures or labels, or with another detector, is made anew.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Optional

from gender_edge.errors import DataError
from gender_edge.faces.central import unknown
from gender_edge.labelled import read_labelled
from gender_edge.lists import write_csv
from gender_edge.samples import LABELS, Sample

from ..architectures.trunks import Trunks
from ..files import digest, replacing, write
from ..recipe import Recipe, Source
from .annotate import annotate
from .packs import PACKED, Pack, drop_copies, pack, readable, split_off

logger = logging.getLogger(__name__)

HELD_OUT_SHARE = 0.1  # carved from train where a set has no such split of its own


@dataclass(frozen=True)
class Places:
    """Where a build reads and writes.

    Attributes:
        data: folder of the labelled folders and lists that recipes name.
        runs: run folders, and the prepared data below `data/`.
        models: the shipped models and their registry.
        detector: YuNet ONNX file; None where all lists have boxes already.
        whole: pictures without a box are face crops: no face is looked for in them.
        trunks: for recipes with `init = "trunk"` or `"imagenet"`, and to estimate ages with.
    """

    data: Path
    runs: Path
    models: Path
    detector: Optional[Path] = None
    whole: bool = False
    trunks: Trunks = field(default_factory=Trunks)


def check(recipe: Recipe, places: Places, workers: int = 1) -> None:
    """Look at the sets of a recipe before hours of training, not after.

    Raises:
        DataError: a set to test on is not named, or has not faces of both labels; or two sets
            would go by one name.
    """
    _names_are_unique(recipe)
    judged = bool(recipe.precisions or recipe.protocol)
    if judged and not recipe.test:
        raise _nothing(recipe, "test")
    tested = recipe.test if judged else ()
    sources = (*recipe.train, *recipe.validate, *tested)
    lists = dict.fromkeys(s.list for s in sources)
    sets = {name: annotated(name, places, workers) for name in lists}
    for name, samples in sets.items():
        named = {s.split for s in sources if s.list == name}
        unused = sum(s.split not in named for s in samples)
        if unused:
            logger.info(
                "%s: %d of %d pictures are in no split that the recipe names (%s)",
                *(name, unused, len(samples), ", ".join(sorted(named))),
            )
    for part in tested:
        _both_labels(f"{part.list}, split {part.split!r}", _of(part, sets[part.list]))


def _names_are_unique(recipe: Recipe) -> None:
    """Sets go by the stems of their lists, in folders and in figures.

    Raises:
        DataError: two would go by one, or one lies elsewhere than below the data.
    """
    for source in (*recipe.train, *recipe.validate, *recipe.test):
        if Path(source.list).is_absolute() or ".." in Path(source.list).parts:
            raise DataError(
                f"recipe {recipe.name}: {source.list}: lists are named from the folder of --data, "
                "and lie below it"
            )
    for sources in (recipe.validate, recipe.test):
        lists = [s.list for s in sources]
        if twice := sorted({name for name in lists if lists.count(name) > 1}):
            raise DataError(
                f"recipe {recipe.name} names {', '.join(twice)} twice to validate or to test; give "
                "the second split a list of its own"
            )
    known: dict[str, str] = {}
    for source in (*recipe.train, *recipe.validate, *recipe.test):
        other = known.setdefault(stem(source.list), source.list)
        if other != source.list:
            raise DataError(
                f"recipe {recipe.name}: {other} and {source.list} would both be called "
                f"{stem(other)!r}; rename one"
            )


def learned_from(
    recipe: Recipe, places: Places, workers: int = 1
) -> tuple[list[Pack], dict[str, Pack]]:
    """The pictures of a recipe's training, and those that validate it, by name of their set.

    Raises:
        DataError: there are none, or none of one label; or as `check`.
    """
    _names_are_unique(recipe)
    for what in ("train", "validate"):
        if not getattr(recipe, what):
            raise _nothing(recipe, what)
    packs = [packed(source, places, workers) for source in recipe.train]
    _both_labels("the training data", [s for p in packs for s in p.samples])
    return packs, validated_on(recipe, places, workers)


def validated_on(recipe: Recipe, places: Places, workers: int = 1) -> dict[str, Pack]:
    """The pictures that validate a recipe, by name of their set.

    Raises:
        DataError: a set has none of one label.
    """
    validation = {stem(s.list): packed(s, places, workers) for s in recipe.validate}
    for own in validation.values():
        _both_labels(own.folder.name, own.samples)
    return validation


def _nothing(recipe: Recipe, what: str) -> DataError:
    example = f'{what} = [{{ list = "faces", split = "..." }}]'
    return DataError(f"recipe {recipe.name} names no pictures to {what}; add {example}")


def _both_labels(where: str, samples: Iterable[Sample]) -> None:
    labels = sorted({s.label for s in samples})
    if labels != sorted(LABELS):
        found = " and ".join(labels) or "no"
        raise DataError(f"{where}: has {found} faces; expected some of both labels, add those")


def packed(source: Source, places: Places, workers: int = 1) -> Pack:
    """The decoded pictures of one split of one set."""
    samples = _of(source, annotated(source.list, places, workers))
    if not samples:
        raise DataError(f"{source.list} has no split {source.split!r}; see its annotated.csv")
    return pack(samples, _folder(places, source.list, source.split))


def _of(source: Source, samples: Iterable[Sample]) -> list[Sample]:
    return [s for s in samples if s.split == source.split]


def annotated(name: str, places: Places, workers: int = 1) -> list[Sample]:
    """One labelled set, ready: readable, faces found, every split there, no picture in two."""
    source, target = (places.data / name).resolve(), annotation(name, places)
    if target.exists() and not source.exists():
        logger.warning("%s: not there; %s is used as it is", source, target)
        return read_labelled(target)
    samples, noted = read_labelled(source), target.with_suffix(".json")
    made_from = _state(samples, places)
    before = json.loads(noted.read_text()) if noted.exists() else {}
    if target.exists() and "content" not in before:
        # Made before this was noted: taken as fitting, or every old run would be prepared anew.
        before = made_from
        write(noted, json.dumps(made_from))
    if not target.exists() or not _fits(before, made_from):
        if target.exists():
            logger.info("%s: other pictures, labels or detector than before; made anew", name)
        samples = _split(_with_faces(name, readable(samples), places, workers))
        for split in {str(s.split) for s in samples}:
            (_folder(places, name, split) / PACKED).unlink(missing_ok=True)
        with replacing(target) as partial:
            write_csv(drop_copies(samples), partial)
        write(noted, json.dumps(made_from))
    return read_labelled(target)


def annotation(name: str, places: Places) -> Path:
    """The list that `annotated` makes of a set."""
    return places.runs / "data" / stem(name) / "annotated.csv"


def _folder(places: Places, name: str, split: str) -> Path:
    return places.runs / "data" / f"{stem(name)}-{split}"


def stem(name: str) -> str:
    """A folder's name for a set: `a/list.csv` and `b/list.csv` are two."""
    return "-".join(Path(name).with_suffix("").parts)


def _state(samples: list[Sample], places: Places) -> dict[str, Optional[str]]:
    """What changes with a list, with its files, and with the detector if that is asked."""
    files = sorted({s.path for s in samples})
    content = repr((samples, [_digest(f) for f in files]))
    detector, asked = None, any(unknown(s) for s in samples)
    if asked and places.whole:
        detector = "none"
    elif asked and places.detector is not None and places.detector.is_file():
        detector = digest(places.detector)
    return {"content": hashlib.sha256(content.encode()).hexdigest(), "detector": detector}


def _digest(file: Path) -> Optional[str]:
    """Of what is in a file, whatever its date; None for an unreadable one."""
    try:
        stat = file.stat()
        return _digest_of(file, stat.st_size, stat.st_mtime_ns)
    except OSError:
        return None


@cache  # a set is asked for once for each of its splits
def _digest_of(file: Path, size: int, changed: int) -> str:
    return digest(file)


def _fits(before: dict[str, Optional[str]], now: dict[str, Optional[str]]) -> bool:
    """Whether it was made of the same, and by the same detector as far as that is known."""
    detectors = {before["detector"], now["detector"]} - {None}
    return before["content"] == now["content"] and len(detectors) < 2


def _with_faces(name: str, samples: list[Sample], places: Places, workers: int) -> list[Sample]:
    """Boxes and landmarks found where there are none; those that were given stay."""
    asked = [s for s in samples if unknown(s)]
    if not asked or places.whole:
        return samples
    if places.detector is None:
        raise DataError(
            f"{name}: {len(asked)} of {len(samples)} pictures have no boxes; name a YuNet ONNX "
            "file with --detector (OpenCV's model zoo has it, as face_detection_yunet), or say "
            "--whole if they are face crops"
        )
    found = annotate(asked, places.detector, workers)
    lost = sum(unknown(s) for s in found)
    logger.info("%s: no face found in %d of %d pictures, used whole", name, lost, len(asked))
    rest = iter(found)
    return [next(rest) if unknown(s) else s for s in samples]


def _split(samples: list[Sample]) -> list[Sample]:
    """Test and validation splits carved from train, where a set has none."""
    if {s.split for s in samples} == {None}:
        samples = [replace(s, split="train") for s in samples]
        samples = split_off(samples, "train", "test", HELD_OUT_SHARE)
    if not any(s.split == "val" for s in samples) and any(s.split == "train" for s in samples):
        samples = split_off(samples, "train", "val", HELD_OUT_SHARE)
    return samples
