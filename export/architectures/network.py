"""What every network shares: pixels in, logits out, normalisation inside."""

from __future__ import annotations

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
        self.register_buffer("luminance", luminance, persistent=False)
        self.register_buffer("mean", (centre * luminance).sum(1, True) if grayscale else centre)

    def forward(self, pixels: Tensor) -> Tensor:
        """uint8 (N, H, W, 3) to float (N, 3 or 1, H, W)."""
        x = pixels.float().permute(0, 3, 1, 2)
        if self.grayscale:
            x = nn.functional.conv2d(x, self.luminance)
        return (x - self.mean) * self.scale


class Network(nn.Module):
    """Normalisation and trunk: what is trained, exported and quantised."""

    def __init__(self, normalise: Normalise, trunk: nn.Module) -> None:
        super().__init__()
        self.normalise, self.trunk = normalise, trunk

    def forward(self, pixels: Tensor) -> Tensor:
        """uint8 (N, H, W, 3) BGR to logits (N, 2)."""
        return self.trunk(self.normalise(pixels))
