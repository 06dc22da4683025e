"""What an epoch sees: which pictures, in what order, each as a fresh random view."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from gender_edge.labelled import LABELS
from gender_edge.spec import CropRule

from .augment import training_crop
from .data import Pack
from .recipe import Recipe


class Views(Dataset[tuple[Tensor, int]]):
    """A random view of a face and its class number, the same for the same seed and epoch."""

    def __init__(self, packs: list[Pack], rule: CropRule, size: int, seed: tuple[int, int]) -> None:
        self.packs, self.rule, self.size, self.seed = packs, rule, size, seed
        self.starts = np.cumsum([0] + [len(p) for p in packs])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        part = int(np.searchsorted(self.starts, number, "right")) - 1
        pack, inside = self.packs[part], number - int(self.starts[part])
        rng = np.random.default_rng((*self.seed, number))
        sample = pack.samples[inside]
        crop = training_crop(pack.image(inside), sample, self.rule, self.size, rng)
        return torch.from_numpy(crop), LABELS.index(sample.label)


def draw(packs: list[Pack], weights: list[float], seed: tuple[int, int]) -> np.ndarray:
    """Which pictures an epoch sees, in order: everything once, favoured sets more often."""
    rng = np.random.default_rng(seed)
    start, chosen = 0, []
    for pack, weight in zip(packs, weights):
        whole, rest = divmod(weight, 1.0)
        own = np.arange(start, start + len(pack))
        chosen += [own] * int(whole) + [rng.choice(own, round(rest * len(pack)), replace=False)]
        start += len(pack)
    return rng.permutation(np.concatenate(chosen))


def steps_of(recipe: Recipe, packs: list[Pack]) -> int:
    """Batches of an epoch; the last, smaller one is left out."""
    drawn = sum(
        int(s.weight) * len(p) + round(s.weight % 1 * len(p)) for s, p in zip(recipe.train, packs)
    )
    return drawn // recipe.batch_size


def batches(
    recipe: Recipe, packs: list[Pack], epoch: int, first: int, workers: int
) -> DataLoader[tuple[Tensor, int]]:
    """The batches of an epoch from number `first` on: uint8 (N, S, S, 3) and int64 (N,)."""
    seed = (recipe.seed, epoch)
    order = draw(packs, [source.weight for source in recipe.train], seed)
    size = recipe.batch_size
    chosen = order[first * size : steps_of(recipe, packs) * size]
    views = Views(packs, CropRule(), recipe.sizes[epoch], seed)
    pinned = torch.cuda.is_available()
    return DataLoader(views, size, sampler=chosen.tolist(), num_workers=workers, pin_memory=pinned)
