"""InceptionV3 (Szegedy et al. 2016) and InceptionResNetV2 (Szegedy et al. 2017) as trunks.

The networks are torchvision's and timm's, less their classifiers.
"""

from __future__ import annotations

from typing import Optional

from torch import Tensor, nn

from gender_edge.errors import DataError

from .network import Trunk


class Inception(Trunk):
    """A library's network whose output is the mean of the last maps; one dense layer.

    Takes colour pictures of any side from 75 pixels.

    Args:
        dropout: before the dense layer.

    Attributes:
        first: the convolution that sees the pixels.
        heads: how those entries of a published state dict begin that are not wanted here.
    """

    mean = (127.5, 127.5, 127.5)
    scale = 1 / 127.5
    first: str
    heads: tuple[str, ...]

    def __init__(self, width: int, features: nn.Module, in_channels: int, dropout: float) -> None:
        if in_channels != 3:
            raise DataError("Inception networks see colour here; take grayscale out of the recipe")
        super().__init__(width, dropout)
        self.features = features

    def embed(self, x: Tensor) -> Tensor:
        """The last maps' means."""
        return self.features(x)

    @staticmethod
    def published() -> dict[str, Tensor]:
        """The state dict of ImageNet weights, as its library downloads it."""
        raise NotImplementedError


# torchvision and timm are imported where they are needed, because that takes seconds.


class InceptionV3(Inception):
    """torchvision's, without auxiliary logits."""

    first = "Conv2d_1a_3x3.conv.weight"
    heads = ("fc.", "AuxLogits.")

    def __init__(self, in_channels: int = 3, dropout: float = 0.2) -> None:
        from torchvision.models import inception_v3

        features = inception_v3(weights=None, aux_logits=False, init_weights=False)
        features.dropout, features.fc = nn.Identity(), nn.Identity()
        super().__init__(2048, features, in_channels, dropout)

    @staticmethod
    def published() -> dict[str, Tensor]:
        """Downloaded by torchvision."""
        from torchvision.models import get_model

        return get_model("inception_v3", weights="IMAGENET1K_V1").state_dict()


class InceptionResNetV2(Inception):
    """timm's."""

    first = "conv2d_1a.conv.weight"
    heads = ("classif.",)

    def __init__(self, in_channels: int = 3, dropout: float = 0.2) -> None:
        from timm import create_model

        features = create_model("inception_resnet_v2", num_classes=0)
        super().__init__(1536, features, in_channels, dropout)

    @staticmethod
    def published() -> dict[str, Tensor]:
        """Downloaded by timm."""
        from timm import create_model

        return create_model("inception_resnet_v2", pretrained=True).state_dict()


def load_inception(network: Inception, state: Optional[dict[str, Tensor]] = None) -> None:
    """Fill everything but the dense layer from ImageNet weights (downloaded unless given).

    Both were trained on RGB from -1 to 1 (torchvision recomputes its usual standardisation to
    that); the first layer is turned to take BGR.
    """
    state = network.published() if state is None else state
    own = {k: v for k, v in state.items() if not k.startswith(network.heads)}
    own[network.first] = own[network.first].flip(1)
    network.features.load_state_dict(own)
