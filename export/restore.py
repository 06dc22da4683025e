"""A run folder from shipped files, where the run that made them is gone: others can start from it,
be cut from it, be taught by it and be compared with it.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import onnx

from gender_edge.errors import DataError
from gender_edge.zoo import MODEL

from .architectures import network_for
from .data.prepare import Places, learned_from
from .evaluation.parent import evaluation_of
from .files import digest, replacing
from .recipe import Recipe
from .runs import RESTORED, WEIGHTS, remember, save_weights
from .training.shipped import network_in


def restore(recipe: Recipe, places: Places, workers: int = 1) -> Path:
    """RUNS/NAME from the files shipped of a recipe, from FP32 ones where there are some.

    Its training pictures are needed too: see `export.training.shipped`.

    Raises:
        DataError: nothing of it is shipped, it is of other layers, or the run is there already.
    """
    run, models = places.runs / recipe.name, places.models
    if run.exists():
        raise DataError(f"{run}: is there already; remove that folder to restore it")
    shipped = [p for p in ("fp32", "int8") if (models / f"{recipe.name}_{p}" / MODEL).is_file()]
    if not shipped:
        raise DataError(f"{models}: no model {recipe.name}_fp32 or {recipe.name}_int8 to restore")
    name = f"{recipe.name}_{shipped[0]}"
    file = models / name / MODEL
    packs, _ = learned_from(recipe, places, workers)
    network = network_in(recipe, onnx.load(file), name, packs)
    shape = network.trunk.shape()
    if network_for(recipe).trunk.shape() != shape:
        recipe = recipe.with_widths(shape)
    size = json.loads(evaluation_of(file).read_text())["spec"]["input_size"]
    with replacing(run) as partial:  # whole or not there
        remember(replace(recipe, input_size=size), partial)
        for precision in shipped:
            shutil.copytree(models / f"{recipe.name}_{precision}", partial / precision)
        save_weights(network.state_dict(), partial / WEIGHTS, **{RESTORED: digest(file)})
    return run
