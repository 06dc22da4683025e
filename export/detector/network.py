"""The detector's network: strided 3x3 convolutions, and a 1x1 head at each of three depths.

YuNet spends most of its time in depthwise layers at high resolution, which are bound by memory.
Here two thin strided layers bring a frame down to a quarter, and everything else is plain 3x3
convolution and ReLU at strides 8, 16 and 32, which INT8 kernels do best. The heads, a hundredth of
the work, stay in float: eight bits would move landmarks by a quarter of a pixel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from gender_edge.faces.spotter import CHANNELS

from .. import graph
from ..architectures.network import Normalise

STRIDES = (8, 16, 32)
# Channels of every convolution, a list a stage; each stage begins with a stride of 2. A map must
# see whole faces of its size (see targets.REACH): 47, 127 and 287 px here.
WIDTHS = ((16,), (16,), (32, 32, 32), (48, 48, 48), (64, 64, 64))
RARE = 0.01  # the score that an untrained cell gives


class SpotterNetwork(nn.Module):
    """Pixels uint8 (N, H, W, 3) BGR to a map a stride, float (N, 15, H / stride, W / stride), as
    `gender_edge.spec.DetectorSpec` describes them; sizes are rounded up.

    Args:
        widths: see `WIDTHS`.
    """

    def __init__(self, widths: Sequence[Sequence[int]] = WIDTHS) -> None:
        super().__init__()
        self.normalise = Normalise((128.0, 128.0, 128.0), 1 / 128, grayscale=False)
        stages, channels = [], 3
        for stage in widths:
            layers: list[nn.Module] = []
            for number, width in enumerate(stage):
                layers += _convolution(channels, width, stride=1 if number else 2)
                channels = width
            stages.append(nn.Sequential(*layers))
        self.stages = nn.ModuleList(stages)
        self.heads = nn.ModuleList(nn.Conv2d(w[-1], CHANNELS, 1) for w in widths[-len(STRIDES) :])
        for head in self.heads:
            nn.init.normal_(head.weight, std=0.01)  # type: ignore[arg-type]
            nn.init.zeros_(head.bias)  # type: ignore[arg-type]
            with torch.no_grad():
                head.bias[0] = math.log(RARE)  # type: ignore[index,operator]
                head.bias[3:5] = math.log(2.5)  # type: ignore[index,operator]

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """The maps, in the order of `STRIDES`."""
        x, seen = self.normalise(pixels), []
        for stage in self.stages:
            x = stage(x)
            seen.append(x)
        return [head(own) for head, own in zip(self.heads, seen[-len(STRIDES) :])]


def _convolution(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    return [convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]


def export(network: SpotterNetwork, path: Path) -> None:
    """Write the network as FP32 ONNX for any number and size of frames."""
    outputs = [f"stride{stride}" for stride in STRIDES]
    axes = {name: {0: "N", 2: f"rows_{name}", 3: f"columns_{name}"} for name in outputs}
    graph.trace(network, (64, 96), path, outputs, {graph.INPUT: {0: "N", 1: "H", 2: "W"}, **axes})
