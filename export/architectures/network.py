"""What every network shares: pixels in, logits out, normalisation inside."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

LUMINANCE_BGR = (0.114, 0.587, 0.299)  # ITU-R BT.601, as OpenCV's COLOR_BGR2GRAY


class Normalise(nn.Module):
    """uint8 NHWC BGR to float NCHW: cast first (TensorRT wants it so), then layout, grey, scale."""

    mean: Tensor
    luminance: Tensor

    def __init__(self, mean: tuple[float, float, float], scale: float, grayscale: bool) -> None:
        super().__init__()
        luminance = torch.tensor(LUMINANCE_BGR).view(1, 3, 1, 1)
        centre = torch.tensor(mean).view(1, 3, 1, 1)
        self.grayscale, self.scale = grayscale, scale
        self._one_mean = grayscale or len(set(mean)) == 1
        self.register_buffer("luminance", luminance, persistent=False)
        self.register_buffer("mean", (centre * luminance).sum(1, True) if grayscale else centre)

    def forward(self, pixels: Tensor) -> Tensor:
        """uint8 (N, H, W, 3) to float (N, 3 or 1, H, W)."""
        x = pixels.float().permute(0, 3, 1, 2)
        if self.grayscale:
            x = nn.functional.conv2d(x, self.luminance)
        # ONNX Runtime subtracts one number ten times as fast as one number a channel.
        return (x - (self.mean[:, :1] if self._one_mean else self.mean)) * self.scale


class Trunk(nn.Module):
    """Convolutions that make an embedding of a face, and one dense layer behind them.

    Attributes:
        mean, scale: (x - mean) * scale of BGR values from 0 to 255 is what the convolutions expect.
        width: length of the embedding.
    """

    mean: tuple[float, float, float]
    scale: float

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.width = width
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, 2)

    def embed(self, x: Tensor) -> Tensor:
        """Float (N, C, H, W) to an embedding, float (N, width)."""
        raise NotImplementedError

    def shape(self) -> dict[str, Any]:
        """The arguments that make a network with as many channels as this one has by now; none of
        a kind whose channels cannot be chosen.
        """
        return {}

    def forward(self, x: Tensor) -> Tensor:
        """Float (N, C, H, W) to logits (N, 2)."""
        return self.classify(self.embed(x))

    def classify(self, embedding: Tensor) -> Tensor:
        """Float (N, width) to logits (N, 2)."""
        return self.head(self.dropout(embedding))


def widths_of(layers: nn.Sequential) -> list[list[int]]:
    """Channels of every convolution, a list for those between two max pools."""
    blocks: list[list[int]] = [[]]
    for layer in layers:
        if isinstance(layer, nn.MaxPool2d):
            blocks.append([])
        elif isinstance(layer, nn.Conv2d):
            blocks[-1].append(layer.out_channels)
    return [block for block in blocks if block]


class Network(nn.Module):
    """Normalisation and trunk: what is trained, exported and quantised."""

    def __init__(self, normalise: Normalise, trunk: Trunk) -> None:
        super().__init__()
        self.normalise, self.trunk = normalise, trunk

    def forward(self, pixels: Tensor) -> Tensor:
        """uint8 (N, H, W, 3) BGR to logits (N, 2)."""
        return self.answer(pixels)[0]

    def answer(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 (N, H, W, 3) BGR to logits (N, 2) and the embedding behind them (N, width)."""
        embedding = self.trunk.embed(self.normalise(pixels))
        return self.trunk.classify(embedding), embedding


def in_colour(network: Network) -> Network:
    """A copy that answers alike, whose first convolution takes colours instead of luminance.

    A luminance of its own costs a small network up to a fifth of its time on a CPU; as a factor
    of the first kernels, which this makes of it, next to nothing. Networks for colour are returned
    as they are.
    """
    if not network.normalise.grayscale:
        return network
    network = deepcopy(network)
    first = next(m for m in network.trunk.modules() if isinstance(m, nn.Conv2d))
    first.weight = nn.Parameter(first.weight.detach() * network.normalise.luminance)
    first.in_channels = len(LUMINANCE_BGR)
    mean = float(network.normalise.mean)
    network.normalise = Normalise((mean, mean, mean), network.normalise.scale, grayscale=False)
    return network
