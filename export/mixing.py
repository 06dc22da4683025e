"""Pictures of a batch mixed with one another, and what is said of them likewise."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from gender_edge.errors import DataError
from gender_edge.labelled import LABELS

from .recipe import Recipe

ALPHAS = {  # of the beta distribution that shares are drawn from, as in the papers
    "mixup": 0.2,  # Zhang et al. 2018: weighted sums
    "cutmix": 1.0,  # Yun et al. 2019: a rectangle of one in the other
}


def mixing_of(recipe: Recipe) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """What a recipe does with pixels (N, S, S, 3) and classes int64 (N,) of a batch.

    Without mixing it leaves them as they are; otherwise pixels become float, and classes their
    shares, float (N, 2).

    Raises:
        DataError: teachers have no answers for mixed pictures.
    """
    if not recipe.mixing:
        return lambda pixels, labels: (pixels, labels)
    if recipe.teachers:
        raise DataError(
            f"mixing={recipe.mixing!r}: teachers answered for single pictures; take mixing or "
            "teachers out of the recipe"
        )
    from torchvision.transforms import v2  # here: an import of seconds that only this path needs

    kind = {"mixup": v2.MixUp, "cutmix": v2.CutMix}[recipe.mixing]
    mix = kind(alpha=ALPHAS[recipe.mixing], num_classes=len(LABELS))

    def mixed(pixels: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        both, shares = mix(pixels.permute(0, 3, 1, 2).float(), labels)
        return both.permute(0, 2, 3, 1), shares

    return mixed
