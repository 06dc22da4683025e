"""Quantisation-aware training: a network feels the rounding of INT8 while it learns.

Weights and what reaches a layer are rounded on the way forward as `export.compression.quantize`
rounds them; gradients pass as if they were not (Jacob et al. 2018). The weights themselves stay
what they are, and so do their names: what was trained is exported and quantised like any other
network.
"""

from __future__ import annotations

from typing import Optional

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from .quantize import WEIGHT_REACH

MOMENTUM = 0.99  # of the running range of what reaches a layer
SMALLEST = 1e-8  # a step of the grid


def begin(network: nn.Module) -> None:
    """Round the weights of every convolution and dense layer, and what they read, from now on.

    BatchNorm behind a convolution scales whole output channels, so that weights rounded before it
    are those that are rounded once it is folded.
    """
    for layer in _layers(network):
        parametrize.register_parametrization(layer, "weight", _Weights())
        layer.register_forward_pre_hook(_Inputs())


def state(network: nn.Module) -> dict[str, Tensor]:
    """The weights before they are rounded, by the names that they had before `begin`."""
    own: dict[str, Tensor] = network.state_dict()
    return {name.replace("parametrizations.weight.original", "weight"): own[name] for name in own}


def _layers(network: nn.Module) -> list[nn.Module]:
    return [m for m in network.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]


class _Weights(nn.Module):
    """Symmetric by output channel, as `export.compression.quantize` has them."""

    def forward(self, weights: Tensor) -> Tensor:
        reach = weights.detach().abs().flatten(1).amax(1)
        step = (reach / WEIGHT_REACH).clamp(min=SMALLEST)
        zeros = torch.zeros_like(step, dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(
            weights, step, zeros, 0, -WEIGHT_REACH, WEIGHT_REACH
        )


class _Inputs:
    """0 to 255 between the least and the greatest values that training batches show, on average.

    A copy of the network, such as its running average, shares what the network has seen.
    """

    def __init__(self) -> None:
        self.range: Optional[Tensor] = None  # (2,): least, greatest

    def __deepcopy__(self, memo: object) -> _Inputs:
        return self

    def __call__(self, layer: nn.Module, inputs: tuple[Tensor]) -> Tensor:
        values = inputs[0].float()
        if layer.training or self.range is None:
            low, high = values.detach().aminmax()
            seen = torch.stack([low.clamp(max=0), high.clamp(min=0)])
            self.range = seen if self.range is None else torch.lerp(seen, self.range, MOMENTUM)
        step = ((self.range[1] - self.range[0]) / 255).clamp(min=SMALLEST)
        zero = (-self.range[0] / step).round().int()
        return torch.fake_quantize_per_tensor_affine(values, step, zero, 0, 255)
