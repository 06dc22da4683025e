"""The network inside a shipped file, so that training can go on from it.

Files have BatchNorm folded into convolutions, and INT8 ones have rounded weights. The network read
here gives the file's answers; its BatchNorm layers hold the mean and variance of training pictures,
as training needs.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import torch
from onnx import ModelProto, NodeProto, numpy_helper
from torch import Tensor, nn

from gender_edge import zoo
from gender_edge.errors import DataError

from .. import recipe as recipes
from ..architectures import Network, network_for
from ..data.packs import Pack, even_crops
from ..recipe import Recipe
from ..validate import by_file

logger = logging.getLogger(__name__)

PROBES = 512  # training crops
TOLERANCE = 0.02  # of a probability, on average: what rounding to INT8 may have done to it
GENTLY = 0.25  # of the learning rate of a training from nothing
Layer = tuple[Tensor, Tensor]  # weights, bias


def going_on(recipe: Recipe, name: str) -> Recipe:
    """A recipe for other pictures, to start from a shipped model: its network, and its terms too.

    Raises:
        ModelError: no such model is shipped.
        DataError: no recipe here made it.
    """
    before = zoo.entry(name).evaluation["spec"]
    base = recipes.load(name.rpartition("_")[0])
    origins = [
        recipe.origin,
        f"{name} of gender_edge, trained on {', '.join(before['trained_on'])}",
    ]
    return replace(
        recipe,
        init=f"shipped:{name}",
        architecture=base.architecture,
        arguments=base.arguments,
        grayscale=base.grayscale,
        input_size=before["input_size"],
        sizes=(before["input_size"],) * recipe.epochs,
        learning_rate=GENTLY * min(recipe.learning_rate, base.learning_rate),
        weight_decay=base.weight_decay,
        license=f"{recipe.license}; those of {name}: {before['license']}",
        origin="; ".join(text for text in (*origins, before["origin"]) if text),
    )


def shipped_network(recipe: Recipe, packs: Sequence[Pack]) -> Network:
    """The network of the model that a recipe starts from, ready to be trained on its pictures.

    Raises:
        ModelError: no such model is shipped, or its file is damaged.
        DataError: it is not of the recipe's architecture.
    """
    name = recipe.start[1]
    return network_in(recipe, onnx.load_from_string(zoo.read(name)), name, packs)


def network_in(recipe: Recipe, model: ModelProto, name: str, packs: Sequence[Pack]) -> Network:
    """The network of a model, ready to be trained: the recipe's, with the model's widths.

    Args:
        name: of the model, for errors.
        packs: the training pictures.

    Raises:
        DataError: the recipe's architecture has other layers, or answers otherwise than the model.
    """
    network = read(recipe, model, name)
    side = model.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    own, its = (
        torch.from_numpy(even_crops(packs, PROBES, size, recipe.seed))
        for size in (recipe.input_size, side)
    )
    fit_batch_norm(network, own)
    _compare(model, name, network, its)
    return network


def read(recipe: Recipe, model: ModelProto, name: str) -> Network:
    """That network with BatchNorm's statistics not fitted yet: right for answers, not for training.

    Raises:
        DataError: the recipe's architecture has other layers.
    """
    *convolutions, head = layers_of(model)
    try:
        shape = _shape(recipe, [len(bias) for _, bias in convolutions])
        network = network_for(recipe.with_widths(shape)).eval()
        _fill(network, convolutions, head)
    except (RuntimeError, StopIteration, ValueError) as error:
        raise DataError(
            f"{name}: has other layers than {recipe.architecture}, which {recipe.name} is made of"
        ) from error
    return network


def _shape(recipe: Recipe, widths: Sequence[int]) -> dict[str, Any]:
    """What of the recipe's arguments says widths, with those found."""
    shape = network_for(recipe).trunk.shape()
    found = iter(widths)

    def renumbered(value: Any) -> Any:
        return [renumbered(v) for v in value] if isinstance(value, list) else next(found)

    return {key: renumbered(value) for key, value in shape.items()}


def _fill(network: Network, convolutions: Sequence[Layer], head: Layer) -> None:
    """Set weights and biases; files have BatchNorm folded into both, so that it adds the bias and
    does nothing else.
    """
    trunk = network.trunk
    own: list[nn.Module] = [m for m in trunk.modules() if isinstance(m, nn.Conv2d)]
    norms = [m for m in trunk.modules() if isinstance(m, nn.BatchNorm2d)]
    (kernels, first), *others = convolutions
    if network.normalise.grayscale:  # in files luminance is a factor of the first kernels
        kernels = kernels.sum(1, keepdim=True)
    read = [(kernels, first), *others, head]
    for layer, (weight, _) in zip([*own, trunk.head], read, strict=True):
        layer.get_parameter("weight").data.copy_(weight)
    for layer, (_, bias) in zip([*(norms or own), trunk.head], read, strict=True):
        layer.get_parameter("bias").data.copy_(bias)
    for norm in norms:
        norm.get_buffer("running_var").fill_(1 - norm.eps)


def layers_of(model: ModelProto) -> list[Layer]:
    """Weights and bias of each convolution of a model, then of its dense layer; of INT8 what its
    integers stand for.
    """
    graph = model.graph
    known = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in known:
            known[node.output[0]] = _dequantized(node, known)
    return [
        (torch.tensor(known[node.input[1]]), torch.tensor(known[node.input[2]]))
        for node in graph.node
        if node.op_type in ("Conv", "Gemm")
    ]


def _dequantized(node: NodeProto, known: Mapping[str, np.ndarray]) -> np.ndarray:
    """By output channel, or by one scale for all."""
    integers, scale, zero = (known[name].astype(np.float32) for name in node.input)
    ends = (1,) * (integers.ndim - 1)
    return (integers - zero.reshape(-1, *ends)) * scale.reshape(-1, *ends)


@torch.inference_mode()
def fit_batch_norm(network: Network, pixels: Tensor) -> None:
    """Set BatchNorm's running mean and variance to those of pixels, and its scale and shift so that
    no answer changes. Else the first training batches, normalised by their own statistics, would
    meet another network.

    Args:
        pixels: uint8 (N, S, S, 3).
    """

    def note(norm: nn.BatchNorm2d, inputs: tuple[Tensor]) -> None:
        usual, spread = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
        mean, variance = inputs[0].mean((0, 2, 3)), inputs[0].var((0, 2, 3))
        norm.bias.add_(norm.weight * (mean - usual) / (spread + norm.eps).sqrt())
        norm.weight.mul_(((variance + norm.eps) / (spread + norm.eps)).sqrt())
        usual.copy_(mean)
        spread.copy_(variance)

    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    hooks = [norm.register_forward_pre_hook(note) for norm in norms]
    network(pixels)  # in the order of layers: each sees what those before it give
    for hook in hooks:
        hook.remove()


def _compare(model: ModelProto, name: str, network: Network, pixels: Tensor) -> None:
    """See that what was read answers as the model does.

    Raises:
        DataError: it does not.
    """
    with torch.inference_mode():
        own = torch.softmax(network(pixels), 1)
    answers = by_file(model.SerializeToString())(pixels.numpy())
    apart = (own - torch.softmax(torch.from_numpy(answers), 1)).abs().mean().item()
    if apart > TOLERANCE:
        raise DataError(
            f"{name}: what was read from it answers otherwise, by {apart:.3f} on average; is it of "
            "the recipe's architecture?"
        )
    logger.info("%s: probabilities are %.4f apart on average", name, apart)
