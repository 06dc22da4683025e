"""What a run learns from, noted when it begins: files of other runs, and which pictures."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx

from gender_edge import zoo
from gender_edge.errors import DataError

from .data.packs import Pack
from .files import digest, write
from .recipe import Recipe
from .runs import BUILT, CONFIG, WEIGHTS, restored, weights_in

NOTE = "learned_from.json"


def check_sources(recipe: Recipe, packs: Sequence[Pack], run: Path) -> None:
    """Note what a run learns from, or see that it is still that, if the run was begun already.

    A run whose note was removed goes on as it is.

    Raises:
        DataError: it is something else now, or not there when the run begins.
    """
    kind, name = recipe.start
    starts = (name,) if kind in ("run", "pruned") else ()
    others = [run.parent / name for name in (*starts, *recipe.teachers)]
    files = {_weights(other): other / WEIGHTS for other in others}
    found = {what: content_digest(file) for what, file in files.items() if file.exists()}
    if recipe.teachers_see == "views":
        for teacher in recipe.teachers:
            model, what = run.parent / teacher / BUILT, f"the INT8 file of {teacher}"
            if model.exists():
                found[what] = content_digest(model)
            elif _finished(run.parent / teacher):  # it answers in FP32, to the end
                found[what] = "none"
    if kind == "shipped":
        found[f"the weights of {name}"] = zoo.entry(name).sha256
    findings = run.parent / recipe.clean
    if recipe.clean and findings.exists():
        found["the list of findings"] = digest(findings)
    found |= pictures_of(packs)
    if not (run / CONFIG).exists():
        for other in others:
            weights_in(other)
    check_unchanged(found, run)


def pictures_of(packs: Sequence[Pack]) -> dict[str, str]:
    """Digests of packs, for `check_unchanged`."""
    found = {}
    for pack in packs:
        found[f"the pictures of {pack.folder.name}"] = pack.digest()
        found[f"the pixels of {pack.folder.name}"] = pack.pixels_digest()
        found[f"the faces of {pack.folder.name}"] = pack.faces_digest()
    return found


def check_unchanged(found: Mapping[str, str], run: Path) -> None:
    """Note digests by what they are of, or see that they are still those, if the run was begun.

    Raises:
        DataError: some are others now.
    """
    before = noted(run)
    changed = sorted(key for key in found.keys() & before.keys() if found[key] != before[key])
    if changed:
        raise DataError(
            f"{run}: was begun when {' and '.join(changed)} were others; remove that folder to "
            f"train anew, or {NOTE} in it to keep what was learned then"
        )
    if not (run / CONFIG).exists():
        write(run / NOTE, json.dumps(found, indent=1))


def began_with(run: Path, other: Path) -> bool:
    """Whether a run learned from the weights that another one has now.

    Where nobody can tell, it did: the other one's weights are gone, or the run was restored.
    """
    if restored(run) or not _finished(other):
        return True
    return noted(run).get(_weights(other)) == digest(other / WEIGHTS)


def content_digest(file: Path) -> str:
    """SHA-256 of a file; of a model without its metadata, which change with its card's words."""
    if file.suffix != ".onnx":
        return digest(file)
    model = onnx.load(file)
    del model.metadata_props[:]
    return hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()


def _finished(run: Path) -> bool:
    return (run / WEIGHTS).exists()


def _weights(run: Path) -> str:
    return f"the weights of {run.name}"


def noted(run: Path) -> dict[str, str]:
    """What `check_sources` noted of a run; nothing where that note was removed."""
    note = run / NOTE
    content: dict[str, str] = json.loads(note.read_text()) if note.exists() else {}
    return content
