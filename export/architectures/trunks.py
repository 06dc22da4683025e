"""Published weights that networks start from, in the files that carry them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Optional

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from gender_edge.errors import DataError

from .face_mobilenet import FaceMobileNet, load_face_gender
from .face_resnet import FaceResNet, load_face_recognition
from .inception import Inception, load_inception
from .vgg import VGG, load_imagenet, load_trunk

# What comes of reading a file that is damaged, or holds something else.
UNFIT = (
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    SafetensorError,
    TypeError,
    UnpicklingError,
)


@dataclass(frozen=True)
class Trunks:
    """Where the files lie; None for what is not at hand.

    Attributes:
        vgg16: safetensors of VGG16's convolutions, in the Caffe convention.
        face: what TensorFlow.js loads for the face network that the recipe names.
        ages: as `vgg16`, to estimate ages with.
        imagenet: ImageNet weights as torchvision and timm publish them, .safetensors or .pth;
            None to let them download.
    """

    vgg16: Optional[Path] = None
    face: Optional[Path] = None
    ages: Optional[Path] = None
    imagenet: Optional[Path] = None

    def load(self, network: nn.Module) -> None:
        """Fill a network's convolutions from the file for its architecture.

        Raises:
            DataError: there is none, or it does not fit.
        """
        if isinstance(network, VGG):
            load_vgg(network, self.vgg16, "--init FILE")
        elif isinstance(network, FaceResNet):
            load_face_recognition(network, there(self.face, "--face-init FILE"))
        elif isinstance(network, FaceMobileNet):
            load_face_gender(network, there(self.face, "--face-init FILE"))
        else:
            raise DataError(f"init='trunk': there is none for {type(network).__name__}")

    def load_imagenet(self, network: nn.Module) -> None:
        """Fill a network's convolutions with weights from ImageNet.

        Raises:
            DataError: there are none, or they do not fit.
        """
        try:
            state = None if self.imagenet is None else _state_dict(self.imagenet)
            if isinstance(network, VGG):
                load_imagenet(network, state)
            elif isinstance(network, Inception):
                load_inception(network, state)
            else:
                raise DataError(f"init='imagenet': there is none for {type(network).__name__}")
        except UNFIT as error:
            raise DataError(
                f"init='imagenet': {self.imagenet or 'the download'} does not give the weights of "
                f"{type(network).__name__} ({error}); name torchvision's or timm's state dict of "
                "it with --init imagenet:FILE"
            ) from error


def load_vgg(network: VGG, file: Optional[Path], option: str) -> None:
    """Fill a VGG's convolutions from a safetensors file in the Caffe convention.

    Raises:
        DataError: there is none, or it does not fit; what carries torchvision's classifier too is
            not taken, because it expects other pixels.
    """
    path = there(file, option)
    try:
        load_trunk(network, str(path))
    except UNFIT as error:
        raise DataError(
            f"{path}: {option} takes safetensors of VGG's convolutions alone, in the Caffe "
            f"convention ({error}); torchvision's own are for --init imagenet:FILE"
        ) from error


def _state_dict(file: Path) -> dict[str, Tensor]:
    if file.suffix == ".safetensors":
        return load_file(file)
    state: dict[str, Tensor] = torch.load(file, map_location="cpu", weights_only=True)
    return state


def there(file: Optional[Path], option: str) -> Path:
    """The file that an option names.

    Raises:
        DataError: it is not there.
    """
    if file is None or not file.is_file():
        raise DataError(f"published weights: no such file ({file}); name it with {option}")
    return file
