"""VGG (Simonyan and Zisserman 2015) with global average pooling instead of three dense layers.

That takes VGG16 from 138.4 M to 14.7 M parameters and lets it take any input size. A pruned
network is the same class with other widths.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from gender_edge.errors import DataError

from .network import Trunk, widths_of

_BLOCKS = {  # convolutions in each of the five blocks
    "vgg11": (1, 1, 2, 2, 2),
    "vgg13": (2, 2, 2, 2, 2),
    "vgg16": (2, 2, 3, 3, 3),
    "vgg19": (2, 2, 4, 4, 4),
}
_BLOCK_WIDTHS = (64, 128, 256, 512, 512)
VGG_WIDTHS = {
    name: [[width] * count for width, count in zip(_BLOCK_WIDTHS, counts)]
    for name, counts in _BLOCKS.items()
}


class VGG(Trunk):
    """3x3 convolutions in blocks, each closed by a 2x2 max pool; mean over space; one dense layer.

    Args:
        widths: channels of every convolution, a list a block; or the name of a published depth.
        dropout: before the dense layer.
        scale: of the input. The published weights expect 1; what starts from random ones, and has
            no normalisation layers, wants values of about 1 instead: 1/64.
    """

    mean = (103.939, 116.779, 123.68)  # BGR, as the published Caffe weights expect

    def __init__(
        self,
        widths: Sequence[Sequence[int]] | str,
        in_channels: int = 3,
        dropout: float = 0.2,
        scale: float = 1.0,
    ) -> None:
        blocks = VGG_WIDTHS[widths] if isinstance(widths, str) else [list(b) for b in widths]
        super().__init__(blocks[-1][-1], dropout)
        self.scale = scale
        layers: list[nn.Module] = []
        channels = in_channels
        for block in blocks:
            for width in block:
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
                channels = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)

    def embed(self, x: Tensor) -> Tensor:
        """The last maps' means."""
        return self.features(x).mean((2, 3))

    def shape(self) -> dict[str, Any]:
        """Its widths."""
        return {"widths": widths_of(self.features)}


def load_trunk(network: VGG, file: str) -> None:
    """Fill the convolutions from a safetensors file in torchvision's key names (`features.N.*`),
    in the Caffe convention (BGR, 0 to 255 minus the mean).
    """
    state = {k.removeprefix("features."): v.float() for k, v in load_file(file).items()}
    state["0.weight"] = state["0.weight"] / network.scale
    network.features.load_state_dict(state)


def load_imagenet(network: VGG, state: Optional[dict[str, Tensor]] = None) -> None:
    """Fill the convolutions from torchvision's ImageNet weights (downloaded unless given).

    Those expect RGB in 0 to 1, standardised; the first layer is rewritten to take our input.

    Raises:
        DataError: the network is of no published depth.
    """
    if state is None:
        import torchvision  # here: an import of seconds that only this path needs

        name = next(
            (n for n, widths in VGG_WIDTHS.items() if widths == network.shape()["widths"]), None
        )
        if name is None:
            raise DataError(f"init='imagenet': expected one of {', '.join(VGG_WIDTHS)}")
        state = torchvision.models.get_model(name, weights="IMAGENET1K_V1").state_dict()
    features = {
        k.removeprefix("features."): v for k, v in state.items() if k.startswith("features.")
    }
    mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1) * 255
    deviation = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1) * 255
    kernels = (features["0.weight"] / deviation).flip(1)
    shift = torch.tensor(VGG.mean).view(1, 3, 1, 1) - mean.flip(1)
    features["0.bias"] = features["0.bias"] + (kernels * shift).sum((1, 2, 3))
    features["0.weight"] = kernels / network.scale
    network.features.load_state_dict(features)
