"""The face recognition network of dlib as a trunk: it has seen three million faces, we have not.

A ResNet of 29 convolutions at half the usual width (Davis King 2017, "High Quality Face
Recognition with Deep Metric Learning"; public domain, CC0 1.0), here without its last dense
layer.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn
from torch.nn import functional

from gender_edge.errors import DataError

from .network import Trunk
from .tfjs import read_weights

# Width and stride of the residual blocks, under the names of the published weights.
_BLOCKS = {
    **{f"conv32_{n}": (32, 1) for n in (1, 2, 3)},
    "conv64_down": (64, 2),
    **{f"conv64_{n}": (64, 1) for n in (1, 2, 3)},
    "conv128_down": (128, 2),
    **{f"conv128_{n}": (128, 1) for n in (1, 2)},
    "conv256_down": (256, 2),
    **{f"conv256_{n}": (256, 1) for n in (1, 2)},
    "conv256_down_out": (256, 2),
}


class FaceResNet(Trunk):
    """Stem of 7x7, residual blocks, mean over space; one dense layer.

    The published network's scale layers are part of the convolutions. The published input is
    150 x 150 with 0.33 of its side between the eyes; any side from 104 pixels works.

    Args:
        dropout: before the dense layer.
    """

    mean = (104.298, 117.001, 122.782)  # BGR
    scale = 1 / 256

    def __init__(self, in_channels: int = 3, dropout: float = 0.2) -> None:
        super().__init__(_BLOCKS["conv256_down_out"][0], dropout)
        self.stem = nn.Conv2d(in_channels, 32, 7, stride=2)
        blocks, channels = [], 32
        for width, stride in _BLOCKS.values():
            blocks.append(_Block(channels, width, stride))
            channels = width
        self.blocks = nn.Sequential(*blocks)

    def embed(self, x: Tensor) -> Tensor:
        """The last maps' means."""
        x = functional.max_pool2d(functional.relu(self.stem(x)), 3, stride=2)
        return self.blocks(x).mean((2, 3))


class _Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut without weights: mean pool, zeros for new channels."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        padding = 1 if stride == 1 else 0  # as published
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(functional.relu(self.conv1(x)))
        if self.stride > 1:
            x = functional.avg_pool2d(x, 2)
            # Without padding the convolution may end one row and column earlier than the pool.
            y = functional.pad(y, (0, x.shape[3] - y.shape[3], 0, x.shape[2] - y.shape[2]))
            x = functional.pad(x, (0, 0, 0, 0, 0, y.shape[1] - x.shape[1]))
        return functional.relu(x + y)


def load_face_recognition(network: FaceResNet, manifest: Path) -> None:
    """Fill stem and blocks from the weights as the npm package `@vladmandic/face-api` carries
    them (`model/face_recognition_model-weights_manifest.json`, 8 bits a weight).

    Raises:
        DataError: not such a manifest.
    """
    try:
        weights = read_weights(manifest)
        network.stem.load_state_dict(_convolution(weights, "conv32_down", rgb=True))
        for name, block in zip(_BLOCKS, network.blocks):
            block.conv1.load_state_dict(_convolution(weights, f"{name}/conv1"))  # type: ignore[union-attr]
            block.conv2.load_state_dict(_convolution(weights, f"{name}/conv2"))  # type: ignore[union-attr]
    except (OSError, ValueError, LookupError, TypeError, RuntimeError) as error:
        raise DataError(
            f"{manifest}: not the weights of the face recognition network ({error}); name "
            "face_recognition_model-weights_manifest.json of the npm package @vladmandic/face-api, "
            "with the .bin beside it"
        ) from error


def _convolution(weights: dict[str, Tensor], name: str, rgb: bool = False) -> dict[str, Tensor]:
    """A convolution and the scale layer behind it as one; for BGR where the published is RGB."""
    kernels = weights[f"{name}/conv/filters"].permute(3, 2, 0, 1)
    scale, shift = weights[f"{name}/scale/weights"], weights[f"{name}/scale/biases"]
    kernels = kernels.flip(1) if rgb else kernels
    bias = weights[f"{name}/conv/bias"] * scale + shift
    return {"weight": (kernels * scale.view(-1, 1, 1, 1)).contiguous(), "bias": bias}
