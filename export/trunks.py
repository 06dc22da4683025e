"""Published weights that networks start from, in the files that carry them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from torch import nn

from gender_edge.errors import DataError

from .architectures import VGG, FaceResNet, load_face_recognition, load_trunk


@dataclass(frozen=True)
class Trunks:
    """Where the files lie; None for what is not at hand.

    Attributes:
        vgg16: safetensors of VGG16's convolutions.
        face: weights manifest of the face recognition network.
        ages: as `vgg16`, to estimate ages with.
    """

    vgg16: Optional[Path] = None
    face: Optional[Path] = None
    ages: Optional[Path] = None

    def load(self, network: nn.Module) -> None:
        """Fill a network's convolutions from the file for its architecture.

        Raises:
            DataError: there is none, or it does not fit.
        """
        if isinstance(network, VGG):
            load_trunk(network, str(there(self.vgg16, "--init FILE")))
        elif isinstance(network, FaceResNet):
            load_face_recognition(network, there(self.face, "--face-init FILE"))
        else:
            raise DataError(f"init='trunk': there is none for {type(network).__name__}")


def there(file: Optional[Path], option: str) -> Path:
    """The file that an option names.

    Raises:
        DataError: it is not there.
    """
    if file is None or not file.is_file():
        raise DataError(f"published weights: no such file ({file}); name it with {option}")
    return file
