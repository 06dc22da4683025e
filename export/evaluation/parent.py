"""What a variant gave up against what it was made from: before INT8, with colours, unpruned."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from gender_edge import host, measures
from gender_edge.errors import DataError
from gender_edge.zoo import EVALUATION, MODEL

from ..data.prepare import stem
from ..files import digest
from ..provenance import began_with
from ..recipe import Recipe, start_of
from ..runs import CONFIG, config, restored, restored_from
from .latency import latencies

logger = logging.getLogger(__name__)

BEFORE_INT8 = "its weights before INT8"
LATER = "a later training of the one"


def check(recipe: Recipe, runs: Path) -> None:
    """See, before a variant is trained, that what it will be compared with is there.

    Raises:
        DataError: that network is not built, or was tested on other sets.
    """
    for precision in recipe.precisions:
        for _, model in _others(recipe, precision, runs):
            known = json.loads(evaluation_of(model).read_text())["sets"]
            if missing := {stem(s.list) for s in recipe.test} - known.keys():
                raise DataError(
                    f"{model.parent}: not tested on {', '.join(sorted(missing))}, as {recipe.name} "
                    "will be; name the same sets in both recipes and build that one again"
                )


def compared(recipe: Recipe, model: Path, runs: Path) -> list[dict[str, Any]]:
    """Cost and accuracy of each network that a variant is to be compared with, and the time a face
    of both; plain values for JSON.

    Args:
        model: the variant's file, as it is shipped; RUN/PRECISION/model.onnx.
        runs: the folder of runs.

    Raises:
        DataError: one of them is not built.
    """
    others = dict(_parents(recipe, model, runs))
    for other in others.values():
        evaluation_of(other)  # an error now rather than after they were timed
    times = latencies({"own": model, **others}) if others else {}
    return [_row(why, other, times["own"], times[why]) for why, other in others.items()]


def evaluations(recipe: Recipe, model: Path, runs: Path) -> list[Path]:
    """Of the networks that a variant is to be compared with.

    Raises:
        DataError: one of them is not built.
    """
    return [evaluation_of(other) for _, other in _parents(recipe, model, runs)]


def evaluation_of(model: Path) -> Path:
    """evaluation.json beside a model.

    Raises:
        DataError: that is not built.
    """
    evaluation = model.with_name(EVALUATION)
    if not evaluation.exists():
        raise DataError(f"{model.parent}: no evaluated model; build that recipe first")
    return evaluation


def _parents(recipe: Recipe, model: Path, runs: Path) -> Iterator[tuple[str, Path]]:
    """What each was to the variant, and its file: in the variant's precision, but for the first and
    where a restored run has no such file.
    """
    if model.parent.name != "fp32":
        before = model.parent.with_name("fp32") / model.name
        yield f"{BEFORE_INT8}{_how_they_came(model, before)}", before
    yield from _others(recipe, model.parent.name, runs)


def _others(recipe: Recipe, precision: str, runs: Path) -> Iterator[tuple[str, Path]]:
    """Of other runs."""
    if restored(runs / recipe.name):
        yield from _recorded(runs / recipe.name / precision / MODEL, runs)
        return
    if ancestors := _ancestors(recipe, runs):
        chain = [runs / name for name in (recipe.name, *ancestors)]
        same = all(began_with(own, before) for own, before in zip(chain, chain[1:]))
        why = "which it was cut from"
        why = why if same else f"an earlier training of {why}"
        yield from _judged(why, chain[-1], precision)
    kind, name = recipe.start
    begun = runs / name
    known = recipe.grayscale and kind == "run" and (begun / CONFIG).exists()
    if known and not config(begun)["grayscale"]:
        yield from _judged("which sees colours", begun, precision)


def _recorded(model: Path, runs: Path) -> Iterator[tuple[str, Path]]:
    """Those that a shipped file was compared with, of which its restored run knows nothing else."""
    report = model.with_name(EVALUATION)
    rows = json.loads(report.read_text())["against"] if report.exists() else []
    for row in rows:
        if not row["why"].startswith(BEFORE_INT8):
            name, _, precision = row["name"].rpartition("_")
            other, why = runs / name / precision / MODEL, str(row["why"])
            if other.exists() and digest(other) != row.get("sha256", digest(other)):
                why = f"{LATER} {why}"
            yield why, other


def _judged(why: str, run: Path, precision: str) -> Iterator[tuple[str, Path]]:
    """A run's file; none where it ships nothing, since nobody judged it then."""
    if config(run)["precisions"]:
        yield _there(why, run, precision)
    else:
        logger.warning("%s ships nothing: the card cannot compare with it", run)


def _there(why: str, run: Path, precision: str) -> tuple[str, Path]:
    """A run's file in that precision; of a restored one that never had it, what it has."""
    wanted = run / precision / MODEL
    others = [] if wanted.exists() or not restored(run) else sorted(run.glob(f"*/{MODEL}"))
    if not others:
        return why, wanted
    return f"{why}, in {others[0].parent.name.upper()}", others[0]


def _how_they_came(model: Path, before: Path) -> str:
    """What is to be said of a file's weights before INT8, if they are not simply those."""
    if _taught_for_int8(model):
        return ", not taught on for it"
    read_from = restored_from(model.parent.parent)
    if read_from and before.exists() and digest(before) != read_from:
        return ", as an earlier INT8 file had them"
    return ""


def _taught_for_int8(model: Path) -> bool:
    """Whether a file's weights are of `build.aware_step`."""
    report = model.parent.with_suffix(".json")  # RUN/int8.json beside RUN/int8/
    return report.exists() and "aware" in json.loads(report.read_text())


def _row(why: str, other: Path, own_times: np.ndarray, times: np.ndarray) -> dict[str, Any]:
    content = json.loads(evaluation_of(other).read_text())
    share = np.percentile(own_times / times, (10, 50, 90)).tolist()
    sets = {
        name: {key: own[key] for key in ("balanced_accuracy", "groups")}
        for name, own in content["sets"].items()
    }
    return {
        **{key: content["spec"][key] for key in ("name", "macs", "parameters")},
        "why": why,
        "sha256": digest(other),
        "bytes": other.stat().st_size,
        "processor": host.described(),
        "time": dict(zip(("low", "value", "high"), share)),
        "ms": [float(np.median(own_times)), float(np.median(times))],
        "mean": measures.mean([own["balanced_accuracy"] for own in sets.values()]),
        "sets": sets,
    }


def _ancestors(recipe: Recipe, runs: Path) -> list[str]:
    """The runs that a variant came about by, the latest first, back to the network that was cut;
    none where nothing was.

    What was taught on from a network that is shipped is a variant of its own, not a cut one.
    """
    found: list[str] = []
    cut = 0
    kind, name = recipe.start
    while kind in ("pruned", "run"):
        found.append(name)
        if kind == "pruned":
            cut = len(found)
        if not (runs / name / CONFIG).exists():
            if kind == "pruned":
                raise DataError(f"{runs / name}: no such run; build or restore that recipe first")
            logger.warning("%s is gone: the card cannot say what came of which network", name)
            break
        before = config(runs / name)
        if kind == "run" and before["precisions"]:
            break
        kind, name = start_of(str(before["init"]))
    return found[:cut]
