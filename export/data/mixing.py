"""Pictures of a batch mixed with one another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Optional

import torch
from torch import Tensor

from ..recipe import Recipe

ALPHAS = {  # of the beta distribution that shares are drawn from, as in the papers
    "mixup": 0.2,  # Zhang et al. 2018: weighted sums
    "cutmix": 1.0,  # Yun et al. 2019: a rectangle of one in the other
}


def mixing_of(recipe: Recipe) -> Callable[[Tensor], tuple[Tensor, Optional[Tensor]]]:
    """What a recipe does with pixels (N, S, S, 3) of a batch.

    Without mixing it leaves them as they are, and the second result is None. Otherwise they become
    float, and the second is how much of each picture (column) is in each mixed one (row): float
    (N, N), rows of sum 1. What is said of the pictures is mixed by multiplying with it.
    """
    if not recipe.mixing:
        return lambda pixels: (pixels, None)
    from torchvision.transforms import v2  # here: an import of seconds that only this path needs

    kind = {"mixup": v2.MixUp, "cutmix": v2.CutMix}[recipe.mixing]
    alpha = recipe.mixing_alpha or ALPHAS[recipe.mixing]

    def mixed(pixels: Tensor) -> tuple[Tensor, Tensor]:
        numbers = torch.arange(len(pixels), device=pixels.device)  # a class of its own for each
        mix = kind(alpha=alpha, num_classes=len(pixels))
        both, shares = mix(pixels.permute(0, 3, 1, 2).float(), numbers)
        return both.permute(0, 2, 3, 1), shares

    return mixed
