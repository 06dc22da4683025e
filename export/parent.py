"""What a variant gave up against what it was made from: before INT8, with colours, unpruned."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from gender_edge import choose
from gender_edge.errors import DataError
from gender_edge.zoo import mean_accuracy

from .latency import latencies
from .recipe import Recipe
from .runs import CONFIG, config

_PRUNED, _RUN = "pruned:", "run:"


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
        if not other.with_name("evaluation.json").exists():
            raise DataError(f"{other.parent}: no evaluated model; build that recipe first")
    times = latencies({"own": model, **others}) if others else {}
    return [_row(why, other, times["own"], times[why]) for why, other in others.items()]


def _parents(recipe: Recipe, model: Path, runs: Path) -> Iterator[tuple[str, Path]]:
    """What each was to the variant, and its file: in the variant's precision but for the first."""
    precision = model.parent.name
    if precision != "fp32":
        yield "its weights before INT8", model.parent.with_name("fp32") / model.name
    if recipe.init.startswith(_PRUNED):
        whole = runs / _first(recipe.init, runs) / precision / model.name
        yield "which it was cut from", whole
    begun = runs / recipe.init.removeprefix(_RUN)
    if recipe.grayscale and recipe.init.startswith(_RUN):
        before = config(begun)
        if before["precisions"] and not before["grayscale"]:  # what ships nothing is not judged
            yield "which sees colours", begun / precision / model.name


def _row(why: str, other: Path, own_times: np.ndarray, times: np.ndarray) -> dict[str, Any]:
    content = json.loads(other.with_name("evaluation.json").read_text())
    share = np.percentile(own_times / times, (10, 50, 90)).tolist()
    sets = {
        name: {key: own[key] for key in ("balanced_accuracy", "groups")}
        for name, own in content["sets"].items()
    }
    return {
        **{key: content["spec"][key] for key in ("name", "macs", "parameters")},
        "why": why,
        "bytes": other.stat().st_size,
        "processor": choose.processor(),
        "time": dict(zip(("low", "value", "high"), share)),
        "ms": [float(np.median(own_times)), float(np.median(times))],
        "mean": mean_accuracy([own["balanced_accuracy"] for own in sets.values()]),
        "sets": sets,
    }


def _first(init: str, runs: Path) -> str:
    """The run that a chain of prunings began with."""
    while init.startswith(_PRUNED):
        name = init.removeprefix(_PRUNED)
        if not (runs / name / CONFIG).exists():
            raise DataError(f"{runs / name}: no such run; build that recipe first")
        init = str(config(runs / name)["init"])
    return name
