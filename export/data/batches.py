"""What an epoch sees: which pictures, in what order, each as a fresh random view."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Optional

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from gender_edge.errors import DataError
from gender_edge.samples import LABELS
from gender_edge.spec import CropRule

from ..recipe import Recipe, Source
from .ages import ages_of, balancing, by_age
from .augment import AUGMENTATIONS
from .findings import dropped
from .packs import Pack

logger = logging.getLogger(__name__)


class Views(Dataset[tuple[Tensor, int, int]]):
    """An epoch's random views of faces, each with its class and the face's place in all packs.

    A view is the same for the same seed, epoch and turn in it, wherever the epoch is taken up.

    Args:
        order: int (D,), the picture of each turn; one that is drawn twice is seen in two views.
        crop: one of `AUGMENTATIONS`.
        size: side of the views, in pixels.
        seed: of the training, and the epoch.
    """

    def __init__(
        self,
        packs: list[Pack],
        order: np.ndarray,
        crop: Callable[..., np.ndarray],
        size: int,
        seed: tuple[int, int],
    ) -> None:
        self.packs, self.order = packs, order
        self.crop, self.size, self.seed = crop, size, seed
        self.starts = np.cumsum([0] + [len(p) for p in packs])

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, turn: int) -> tuple[Tensor, int, int]:
        number = int(self.order[turn])
        part = int(np.searchsorted(self.starts, number, "right")) - 1
        pack, inside = self.packs[part], number - int(self.starts[part])
        rng = np.random.default_rng((*self.seed, turn))
        sample = pack.samples[inside]
        crop = self.crop(pack.image(inside), sample, CropRule(), self.size, rng)
        return torch.from_numpy(crop), LABELS.index(sample.label), number


def weights_of(recipe: Recipe, packs: list[Pack], trunk: Optional[Path], runs: Path) -> np.ndarray:
    """How often an epoch shows each picture of all packs, in their order: float64 (N,).

    Args:
        trunk: safetensors of VGG16's convolutions, to estimate ages where a set has none.
        runs: the folder of runs, which the recipe's list of findings is named from.

    Raises:
        DataError: the recipe's limit is beyond what there is.
    """
    weights = [np.full(len(p), s.weight) for s, p in zip(recipe.train, packs)]
    if recipe.clean:
        for own, source, pack in zip(weights, recipe.train, packs):
            own[_left_out(runs / recipe.clean, source, pack)] = 0
    balanced = recipe.balance_ages or recipe.balance_ethnicities
    if balanced or recipe.age_weights:
        for own, pack, ages in zip(weights, packs, ages_of(packs, trunk)):
            if balanced:
                own *= balancing(pack, ages, own > 0, recipe.balance_ethnicities)
            own *= by_age(ages, recipe.age_weights)
    together = np.concatenate(weights)
    drawn = np.flatnonzero(together)
    if recipe.limit > len(drawn):
        raise DataError(f"limit={recipe.limit}: there are {len(drawn)} pictures; lower it")
    if recipe.limit:
        order = np.random.default_rng(recipe.seed).permutation(drawn)
        together[order[recipe.limit :]] = 0
    return together


def _left_out(findings: Path, source: Source, pack: Pack) -> list[int]:
    """Numbers of the pictures of a pack that a list of findings drops.

    Raises:
        DataError: it is of other pictures.
    """
    names = dropped(findings, source)
    if unknown := names - {s.name for s in pack.samples}:
        raise DataError(
            f"{findings}: {len(unknown)} pictures that it drops are not in {source.list}, one is "
            f"{min(unknown)}; make it anew with `python -m export clean`"
        )
    numbers = [i for i, s in enumerate(pack.samples) if s.name in names]
    logger.info("%s: %d of %d pictures left out", pack.folder.name, len(numbers), len(pack))
    return numbers


def draw(weights: np.ndarray, seed: tuple[int, int]) -> np.ndarray:
    """Which pictures an epoch sees, in order: each as often as its weight says, on average.

    Systematic sampling, so that a weight of 2.5 means two or three times, never one or five.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(weights))
    reached = np.floor(np.cumsum(weights[order]) + rng.random()).astype(int)
    return rng.permutation(np.repeat(order, np.diff(reached, prepend=0)))


def steps_of(recipe: Recipe, weights: np.ndarray) -> int:
    """Batches of an epoch; the last, smaller one is left out.

    Raises:
        DataError: there is not one.
    """
    drawn = int(weights.sum())
    if drawn < recipe.batch_size:
        raise DataError(
            f"an epoch draws {drawn} pictures, in batches of {recipe.batch_size}: lower batch_size"
        )
    return drawn // recipe.batch_size


def batches(
    recipe: Recipe, packs: list[Pack], weights: np.ndarray, epoch: int, first: int, workers: int
) -> DataLoader[tuple[Tensor, int, int]]:
    """The batches of an epoch from number `first` on: uint8 (N, S, S, 3), then class and place in
    all packs, both int64 (N,).

    Args:
        weights: of every picture of all packs, in their order.
    """
    crop = AUGMENTATIONS[recipe.augmentation]
    seed = (recipe.seed, epoch)
    order, size = draw(weights, seed), recipe.batch_size
    turns = range(first * size, steps_of(recipe, weights) * size)
    views = Views(packs, order, crop, recipe.sizes[epoch], seed)
    pinned = torch.cuda.is_available()
    return DataLoader(views, size, sampler=turns, num_workers=workers, pin_memory=pinned)
