from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from export import recipe
from export.data.batches import batches, weights_of
from export.data.packs import Pack
from export.data.prepare import Places, learned_from
from export.recipe import Recipe


@pytest.fixture
def learned(places: Places, recipe_file: Path) -> tuple[Recipe, list[Pack], np.ndarray]:
    """The tiny recipe, its pictures, and how often each is drawn: five times."""
    wanted = recipe.load(str(recipe_file))
    packs, _ = learned_from(wanted, places)
    return wanted, packs, weights_of(wanted, packs, None, places.runs)


def test_every_turn_of_a_picture_is_another_view(
    learned: tuple[Recipe, list[Pack], np.ndarray],
) -> None:
    seen: dict[int, list[torch.Tensor]] = {}
    for pixels, _, numbers in batches(*learned, epoch=0, first=0, workers=0):
        for view, number in zip(pixels, numbers.tolist()):
            seen.setdefault(number, []).append(view)
    for views in seen.values():
        assert len({view.numpy().tobytes() for view in views}) == len(views)
    assert max(map(len, seen.values())) == 5


def test_an_epoch_taken_up_in_the_middle_is_the_same(
    learned: tuple[Recipe, list[Pack], np.ndarray],
) -> None:
    whole = list(batches(*learned, epoch=1, first=0, workers=0))
    rest = list(batches(*learned, epoch=1, first=20, workers=0))
    assert len(rest) == len(whole) - 20 > 1
    for one, other in zip(whole[20:], rest):
        assert all(torch.equal(a, b) for a, b in zip(one, other))
