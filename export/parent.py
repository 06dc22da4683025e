"""What a pruned variant gave up against the network that its chain of prunings began with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from gender_edge import choose
from gender_edge.errors import DataError

from .latency import latencies
from .prepare import stem
from .provenance import began_with
from .recipe import Recipe
from .runs import CONFIG, config

PRUNED = "pruned:"


def check(recipe: Recipe, runs: Path) -> None:
    """See, before a pruned variant is trained, that there is what it will be compared with.

    Raises:
        DataError: the network that it began with is not built, or was tested on other sets.
    """
    for precision in recipe.precisions if recipe.init.startswith(PRUNED) else ():
        evaluation = evaluation_of(recipe, precision, runs)
        known = json.loads(evaluation.read_text())["sets"]
        if missing := {stem(s.list) for s in recipe.test} - known.keys():
            raise DataError(
                f"{evaluation}: not tested on {', '.join(sorted(missing))}, as {recipe.name} will "
                "be; name the same sets in both recipes and build that one again"
            )


def compared(recipe: Recipe, model: Path, runs: Path) -> dict[str, Any]:
    """The first network's name, cost and accuracy, and the pruned one's time a face as a share of
    its; plain values for JSON.

    Args:
        recipe: of the pruned one; starts with `pruned:`.
        model: its file, as it is shipped; the other is taken in the same precision.
        runs: the folder of runs.

    Returns:
        Among them `retrained`: whether some network on the way has other weights now than those
        that were cut.

    Raises:
        DataError: the other is not built.
    """
    evaluation = evaluation_of(recipe, model.parent.name, runs)
    whole = evaluation.with_name("model.onnx")
    content = json.loads(evaluation.read_text())
    times = latencies({"own": model, "whole": whole})
    shares = times["own"] / times["whole"]
    chain = [recipe.name, *_ancestors(recipe, runs)]
    return {
        **{key: content["spec"][key] for key in ("name", "macs", "parameters")},
        "retrained": not all(
            began_with(runs / own, runs / before) for own, before in zip(chain, chain[1:])
        ),
        "bytes": whole.stat().st_size,
        "processor": choose.processor(),
        "time": dict(zip(("low", "value", "high"), np.percentile(shares, (10, 50, 90)).tolist())),
        "sets": {
            name: {key: own[key] for key in ("balanced_accuracy", "groups")}
            for name, own in content["sets"].items()
        },
    }


def evaluation_of(recipe: Recipe, precision: str, runs: Path) -> Path:
    """evaluation.json of the network that a pruned one began with.

    Raises:
        DataError: that is not built.
    """
    folder = runs / _ancestors(recipe, runs)[-1] / precision
    evaluation = folder / "evaluation.json"
    if not evaluation.exists():
        raise DataError(f"{folder}: no evaluated model; build that recipe first")
    return evaluation


def _ancestors(recipe: Recipe, runs: Path) -> list[str]:
    """The runs of a chain of prunings, back to the one that it began with."""
    found, init = [], recipe.init
    while init.startswith(PRUNED):
        name = init.removeprefix(PRUNED)
        if not (runs / name / CONFIG).exists():
            raise DataError(f"{runs / name}: no such run; build that recipe first")
        found.append(name)
        init = str(config(runs / name)["init"])
    return found
