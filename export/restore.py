"""A run folder from shipped files, where the run that made them is gone: others can start from it,
be cut from it, be taught by it and be compared with it.
"""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from pathlib import Path

from gender_edge.errors import DataError

from .architectures import build
from .files import digest
from .parent import MODEL
from .prepare import Places, learned_from
from .recipe import Recipe
from .runs import CONFIG, WEIGHTS, remember, save_weights
from .shipped import network_in, ready

logger = logging.getLogger(__name__)


def restore(recipe: Recipe, places: Places, workers: int = 1) -> Path:
    """RUNS/NAME from the files shipped of a recipe, from FP32 ones where there are some.

    Its training pictures are needed too: see `export.shipped`.

    Raises:
        DataError: nothing of it is shipped, it is of other layers, or the run is there already.
    """
    run, models = places.runs / recipe.name, places.models
    if (run / CONFIG).exists():
        raise DataError(f"{run}: is there already; remove that folder to restore it")
    shipped = [p for p in ("fp32", "int8") if (models / f"{recipe.name}_{p}" / MODEL).is_file()]
    if not shipped:
        raise DataError(f"{models}: no model {recipe.name}_fp32 or {recipe.name}_int8 to restore")
    file = models / f"{recipe.name}_{shipped[0]}" / MODEL
    network = network_in(recipe, file)
    packs, _ = learned_from(recipe, places, workers)
    ready(network, file, recipe, packs)
    shape = network.trunk.shape()
    if build(recipe.architecture, recipe.arguments, recipe.grayscale).trunk.shape() != shape:
        recipe = replace(recipe, arguments={**recipe.arguments, **shape})
    remember(recipe, run)
    for precision in shipped:
        shutil.copytree(models / f"{recipe.name}_{precision}", run / precision)
    save_weights(network.state_dict(), run / WEIGHTS, restored=digest(file))
    logger.info("%s: the weights of %s", run, file)
    return run
