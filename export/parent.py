"""What a pruned variant gave up against the network that its chain of prunings began with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from gender_edge import host
from gender_edge.errors import DataError

from .latency import latencies
from .recipe import Recipe
from .runs import CONFIG, config

_PRUNED = "pruned:"


def compared(recipe: Recipe, model: Path, runs: Path) -> dict[str, Any]:
    """The first network's name, cost and accuracy, and the pruned one's time a face as a share of
    its; plain values for JSON.

    Args:
        recipe: of the pruned one; starts with `pruned:`.
        model: its file, as it is shipped; the other is taken in the same precision.
        runs: the folder of runs.

    Raises:
        DataError: the other is not built.
    """
    whole = runs / _first(recipe.init, runs) / model.parent.name / "model.onnx"
    evaluation = whole.with_name("evaluation.json")
    if not evaluation.exists():
        raise DataError(f"{whole.parent}: no evaluated model; build that recipe first")
    content = json.loads(evaluation.read_text())
    times = latencies({"own": model, "whole": whole})
    shares = times["own"] / times["whole"]
    return {
        **{key: content["spec"][key] for key in ("name", "macs", "parameters")},
        "bytes": whole.stat().st_size,
        "processor": host.processor(),
        "time": dict(zip(("low", "value", "high"), np.percentile(shares, (10, 50, 90)).tolist())),
        "sets": {
            name: {key: own[key] for key in ("balanced_accuracy", "groups")}
            for name, own in content["sets"].items()
        },
    }


def _first(init: str, runs: Path) -> str:
    """The run that a chain of prunings began with."""
    while init.startswith(_PRUNED):
        name = init.removeprefix(_PRUNED)
        if not (runs / name / CONFIG).exists():
            raise DataError(f"{runs / name}: no such run; build that recipe first")
        init = str(config(runs / name)["init"])
    return name
