from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from export import recipe
from export.architectures.trunks import Trunks
from export.data.batches import weights_of
from export.data.mixing import mixing_of
from export.data.prepare import Places, learned_from
from export.training.train import _Training


@pytest.mark.parametrize("mixing", ["mixup", "cutmix"])
def test_shares_are_those_of_the_pixels(mixing: str) -> None:
    """Men are black and women white: how white a picture is, is how much of a woman is in it."""
    mix, seen = mixing_of(replace(recipe.load("slim_base"), mixing=mixing)), []
    torch.manual_seed(0)
    women = torch.tensor([1, 0, 0, 1, 0, 1])
    pixels = (255 * women).to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 32, 32, 3)
    for _ in range(20):
        both, shares = mix(pixels)
        assert both.shape == pixels.shape and shares is not None
        torch.testing.assert_close(shares.sum(1), torch.ones(6))
        torch.testing.assert_close(both.mean((1, 2, 3)) / 255, shares @ women.float())
        seen.append(shares @ women.float())
    assert 0.05 < torch.cat(seen).var() < 0.24  # neither all alike nor as they were
    assert torch.cat(seen).unique().numel() > 10


def test_how_much_is_mixed_is_chosen() -> None:
    """By shares of the smaller part: a beta distribution of 0.2 leaves most nearly alone."""
    torch.manual_seed(0)
    smaller = {}
    for alpha in (0.0, 1.0, 50.0):
        wanted = replace(recipe.load("slim_base"), mixing="mixup", mixing_alpha=alpha)
        mix = mixing_of(wanted)
        shares = [mix(torch.zeros(2, 8, 8, 3, dtype=torch.uint8))[1].min() for _ in range(200)]
        smaller[alpha] = float(torch.stack(shares).mean())
    assert smaller[0.0] < 0.15  # the mean of a beta distribution of 0.2, folded, is 0.1
    assert 0.2 < smaller[1.0] < 0.3  # uniform: a quarter
    assert smaller[50.0] > 0.45


def test_no_mixing_leaves_batches_alone() -> None:
    pixels = torch.zeros(2, 8, 8, 3, dtype=torch.uint8)
    assert mixing_of(recipe.load("slim_base"))(pixels) == (pixels, None)


def test_a_network_learns_from_mixed_pictures(
    places: Places, recipe_file: Path, tmp_path: Path
) -> None:
    """What it learns from differs from what it learns without."""
    wanted = replace(recipe.load(str(recipe_file)), sizes=(24,), batch_size=128)
    packs, _ = learned_from(wanted, places)
    weights, losses = weights_of(wanted, packs, None, tmp_path), {}
    for mixing in ("", "cutmix"):
        training = _Training(replace(wanted, mixing=mixing), packs, tmp_path, Trunks())
        losses[mixing] = training.run_epoch(packs, weights, workers=0)
    assert np.isfinite(losses["cutmix"]) and losses["cutmix"] != losses[""]
