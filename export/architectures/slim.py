"""A small plain network for small devices: strided stem, 3x3 convolutions, max pooling, dropout.

Only convolution, ReLU and pooling, so that after folding BatchNorm every layer is one INT8 kernel
on any engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from .network import Trunk, widths_of


def _convolution(inputs: int, outputs: int, stride: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    ]


class Slim(Trunk):
    """A stem of stride 2, then blocks of convolutions with a 2x2 max pool between blocks.

    Args:
        stem: channels of the first convolution.
        widths: channels of every further convolution, a list a block.
        dropout: before the dense layer.
    """

    mean = (128.0, 128.0, 128.0)  # with a scale of 1/128 the INT8 grid of the input is exact
    scale = 1 / 128

    def __init__(
        self,
        stem: int,
        widths: Sequence[Sequence[int]],
        in_channels: int = 3,
        dropout: float = 0.2,
    ) -> None:
        super().__init__(widths[-1][-1], dropout)
        layers = _convolution(in_channels, stem, stride=2)
        channels = stem
        for number, block in enumerate(widths):
            if number:
                layers.append(nn.MaxPool2d(2))
            for width in block:
                layers += _convolution(channels, width)
                channels = width
        self.features = nn.Sequential(*layers)

    def embed(self, x: Tensor) -> Tensor:
        """The last maps' means."""
        return self.features(x).mean((2, 3))

    def shape(self) -> dict[str, Any]:
        """Its stem and widths."""
        (stem, *first), *others = widths_of(self.features)
        return {"stem": stem, "widths": [first, *others]}
