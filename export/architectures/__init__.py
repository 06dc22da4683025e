"""Networks, by name. Each takes float NCHW, already normalised, and gives two logits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Callable

from gender_edge.errors import DataError

from ..recipe import Recipe
from .face_mobilenet import FaceMobileNet
from .face_resnet import FaceResNet
from .inception import Inception, InceptionResNetV2, InceptionV3
from .network import LUMINANCE_BGR, Network, Normalise, Trunk, in_colour
from .slim import Slim
from .vgg import VGG, VGG_WIDTHS

ARCHITECTURES: dict[str, Callable[..., Trunk]] = {
    "vgg": VGG,
    "slim": Slim,
    "face_resnet": FaceResNet,
    "face_mobilenet": FaceMobileNet,
    "inception_v3": InceptionV3,
    "inception_resnet_v2": InceptionResNetV2,
}


def build(architecture: str, arguments: Mapping[str, Any], grayscale: bool) -> Network:
    """A network that takes uint8 NHWC BGR pixels and gives logits (N, 2).

    Raises:
        DataError: there is no such network, or not with these arguments.
    """
    if architecture not in ARCHITECTURES:
        known = ", ".join(sorted(ARCHITECTURES))
        raise DataError(f"no architecture {architecture!r}; there are {known}")
    try:
        trunk = ARCHITECTURES[architecture](in_channels=1 if grayscale else 3, **arguments)
    except (TypeError, ValueError, LookupError) as error:
        raise DataError(
            f"architecture {architecture!r} with arguments {dict(arguments)}: cannot be built "
            f"({error}); see export/architectures/"
        ) from error
    return Network(Normalise(trunk.mean, trunk.scale, grayscale), trunk)


def network_for(recipe: Recipe) -> Network:
    """The network that a recipe describes, with weights as they come.

    Raises:
        DataError: as `build`.
    """
    return build(recipe.architecture, recipe.arguments, recipe.grayscale)


__all__ = [
    "LUMINANCE_BGR",
    "VGG",
    "VGG_WIDTHS",
    "FaceMobileNet",
    "FaceResNet",
    "Inception",
    "Network",
    "Slim",
    "build",
    "in_colour",
    "network_for",
]
