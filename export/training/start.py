"""Where a training starts: initial weights, frozen layers, optimiser."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ..architectures import LUMINANCE_BGR, Network, network_for
from ..architectures.trunks import Trunks
from ..recipe import Recipe
from ..runs import INITIAL, finished

FIRST = "trunk.features.0"


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
    if (run / INITIAL).exists():  # begun already, or begun by `export.training.initial`
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


def optimizer_of(recipe: Recipe, network: nn.Module) -> torch.optim.Optimizer:
    """The recipe's optimiser; biases and normalisation are not decayed."""
    trained = [p for p in network.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, recipe.learning_rate, momentum=0.9, nesterov=True)
    kind = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[recipe.optimizer]
    return kind(groups, recipe.learning_rate)
