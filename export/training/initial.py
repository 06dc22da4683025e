"""The network that a training begins with, where it is made of another one: made once and kept as
RUN/initial.safetensors, so that a training that goes on has the widths that it was begun with.
"""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

from safetensors import safe_open

from gender_edge.errors import DataError

from ..architectures import network_for
from ..architectures.trunks import Trunks
from ..compression import prune
from ..data.packs import Pack
from ..recipe import Recipe
from ..runs import CONFIG, INITIAL, WEIGHTS, config, finished, save_weights
from . import shipped

logger = logging.getLogger(__name__)

SHAPE = "shape"  # key in the header of those weights


def with_start_widths(
    recipe: Recipe, packs: list[Pack], run: Path, trunks: Trunks, workers: int = 1
) -> Recipe:
    """The recipe, with the widths of the network that it starts from where that is another run's
    or shipped.

    Raises:
        DataError: the recipe asks for what cannot be.
        ModelError: the shipped model is not there.
    """
    kind = recipe.start[0]
    if recipe.remove_macs and kind != "pruned":
        raise DataError(f"remove_macs with init={recipe.init!r}: expected init='pruned:NAME'")
    if kind == "run":
        return _like_run(recipe, run, run.parent / recipe.start[1])
    if kind not in ("pruned", "shipped"):
        return recipe
    start = run / INITIAL
    if not (start.exists() and (run / CONFIG).exists()):
        if kind == "pruned":
            network = prune.cut(recipe, packs, run.parent, trunks, workers)
        else:
            network = shipped.shipped_network(recipe, packs)
        shape = json.dumps(network.trunk.shape())
        logger.info("%s: begins with %s", recipe.name, shape)
        run.mkdir(parents=True, exist_ok=True)
        save_weights(network.state_dict(), start, **{SHAPE: shape})
    with safe_open(start, "pt") as file:
        header = file.metadata() or {}
    if SHAPE not in header:  # begun otherwise, which the run's configuration tells
        return recipe
    return recipe.with_widths(json.loads(header[SHAPE]))


def _like_run(recipe: Recipe, run: Path, start: Path) -> Recipe:
    """Pruned, that run's network has other widths than its recipe and this one say."""
    if (run / CONFIG).exists() and not (start / WEIGHTS).exists():  # begun when that was there
        begun = replace(recipe, arguments=config(run)["arguments"])
        return recipe.with_widths(network_for(begun).trunk.shape())
    trunk = finished(start).trunk
    built = network_for(recipe).trunk
    if type(trunk) is not type(built):
        raise DataError(
            f"recipe {recipe.name}: architecture {recipe.architecture!r} cannot go on from "
            f"{start}, which is another one; name that of the run"
        )
    if trunk.shape() == built.shape():
        return recipe
    return recipe.with_widths(trunk.shape())
