"""A run folder from a shipped file, where the run that made it is gone: others can start from it,
be cut from it, be taught by it and be compared with it.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import NodeProto, numpy_helper
from torch import Tensor, nn

from gender_edge.errors import DataError

from .architectures import Network, build
from .files import digest
from .parent import MODEL
from .prepare import Places, learned_from
from .quantize import calibration_crops
from .recipe import Recipe
from .runs import CONFIG, WEIGHTS, remember, save_weights
from .validate import by_file

logger = logging.getLogger(__name__)

TOLERANCE = 0.02  # of a probability, on average: what rounding to INT8 may have done to it
PROBES = 512  # training crops
Layer = tuple[Tensor, Tensor]  # weights, bias


def restore(recipe: Recipe, places: Places, workers: int = 1) -> Path:
    """RUNS/NAME from the files shipped of a recipe, from FP32 ones where there are some.

    Training pictures are needed too: normalisation layers have to know what is usual, and the
    answers of what was read are compared with the file's.

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
    own, network = network_in(recipe, file)
    packs, _ = learned_from(recipe, places, workers)
    probes = torch.from_numpy(calibration_crops(packs, PROBES, recipe.input_size, recipe.seed))
    settle(network, probes)
    _compare(network, file, probes)
    remember(own, run)
    for precision in shipped:
        shutil.copytree(models / f"{recipe.name}_{precision}", run / precision)
    save_weights(network.state_dict(), run / WEIGHTS, restored=digest(file))
    logger.info("%s: the weights of %s", run, file)
    return run


def network_in(recipe: Recipe, file: Path) -> tuple[Recipe, Network]:
    """The network of a model file, and the recipe with the arguments of the widths found in it.

    Raises:
        DataError: the recipe's architecture has other layers.
    """
    *convolutions, head = layers_of(file)
    try:
        shape = _shape(recipe, [len(bias) for _, bias in convolutions])
        network = build(recipe.architecture, {**recipe.arguments, **shape}, recipe.grayscale).eval()
        _fill(network, convolutions, head)
    except (RuntimeError, StopIteration, ValueError) as error:
        raise DataError(
            f"{file}: has other layers than {recipe.architecture}, which {recipe.name} is made of"
        ) from error
    return replace(recipe, arguments={**recipe.arguments, **shape}), network


def _shape(recipe: Recipe, widths: Sequence[int]) -> dict[str, Any]:
    """What of the recipe's arguments says widths, with those found; nothing where they agree."""
    shape = build(recipe.architecture, recipe.arguments, recipe.grayscale).trunk.shape()
    found = iter(widths)

    def renumbered(value: Any) -> Any:
        return [renumbered(v) for v in value] if isinstance(value, list) else next(found)

    own = {key: renumbered(value) for key, value in shape.items()}
    return {} if own == shape else own


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


def layers_of(file: Path) -> list[Layer]:
    """Weights and bias of each convolution of a model file, then of its dense layer; of INT8 what
    its integers stand for.
    """
    graph = onnx.load(file).graph
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
def settle(network: Network, pixels: Tensor) -> None:
    """Let BatchNorm expect what pictures give, without changing an answer: training normalises by
    what a batch gives, and would begin with another network.

    Args:
        pixels: uint8 (N, S, S, 3).
    """

    def expect(norm: nn.BatchNorm2d, inputs: tuple[Tensor]) -> None:
        usual, spread = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
        mean, variance = inputs[0].mean((0, 2, 3)), inputs[0].var((0, 2, 3))
        norm.bias.add_(norm.weight * (mean - usual) / (spread + norm.eps).sqrt())
        norm.weight.mul_(((variance + norm.eps) / (spread + norm.eps)).sqrt())
        usual.copy_(mean)
        spread.copy_(variance)

    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    hooks = [norm.register_forward_pre_hook(expect) for norm in norms]
    network(pixels)  # in the order of layers: each sees what those before it give
    for hook in hooks:
        hook.remove()


def _compare(network: Network, file: Path, pixels: Tensor) -> None:
    """See that what was read answers as the file does.

    Raises:
        DataError: it does not.
    """
    with torch.inference_mode():
        own = torch.softmax(network(pixels), 1)
    there = torch.softmax(torch.from_numpy(by_file(file)(pixels.numpy())), 1)
    apart = (own - there).abs().mean().item()
    if apart > TOLERANCE:
        raise DataError(
            f"{file}: what was read from it answers otherwise, by {apart:.3f} on average; is it of "
            "the recipe's architecture?"
        )
    logger.info("%s: probabilities are %.4f apart on average", file, apart)
