"""Where a training starts: the network's widths, its initial weights, frozen layers.

A network that is made of another one is made once and kept as RUN/initial.safetensors, so that a
training that goes on has the widths that it was begun with.
"""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from gender_edge.errors import DataError

from ..architectures import LUMINANCE_BGR, Network, network_for
from ..architectures.trunks import Trunks
from ..compression import prune
from ..data.packs import Pack
from ..recipe import Recipe
from ..runs import CONFIG, INITIAL, WEIGHTS, config, finished, save_weights
from . import shipped

logger = logging.getLogger(__name__)

FIRST = "trunk.features.0"
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


def initial_network(recipe: Recipe, run: Path, trunks: Trunks) -> Network:
    """The network of a recipe with its initial weights.

    Args:
        run: the recipe's run folder, beside those that `init` may name.
        trunks: for `init = "trunk"` and `init = "imagenet"`.

    Raises:
        DataError: what the recipe starts from is not there.
    """
    torch.manual_seed(recipe.seed)
    network = network_for(recipe)
    kind, name = recipe.start
    if (run / INITIAL).exists():  # begun already, or made by `with_start_widths`
        network.load_state_dict(load_file(run / INITIAL))
    elif kind == "trunk":
        trunks.load(network.trunk)
    elif kind == "imagenet":
        trunks.load_imagenet(network.trunk)
    elif kind == "run":
        state = finished(run.parent / name).state_dict()
        network.load_state_dict(as_gray(state) if recipe.grayscale else state)
    else:  # random
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    for convolution in convolutions[: recipe.frozen]:
        convolution.requires_grad_(False)
    return network


def as_gray(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a colour network for luminance g: grey pictures get the same answers.

    Three equal channels: sum of w_c (g - m_c) is (sum of w_c) (g - m) plus a constant, which goes
    into the bias (it is zero where the channels' means m_c are equal).
    """
    kernels, means = state[f"{FIRST}.weight"], state["normalise.mean"]
    if kernels.shape[1] == 1:
        return state
    mean = (means * torch.tensor(LUMINANCE_BGR).view(1, 3, 1, 1)).sum(1, keepdim=True)
    gray = {f"{FIRST}.weight": kernels.sum(1, keepdim=True), "normalise.mean": mean}
    if f"{FIRST}.bias" in state:
        gray[f"{FIRST}.bias"] = state[f"{FIRST}.bias"] + (kernels * (mean - means)).sum((1, 2, 3))
    return {**state, **gray}
