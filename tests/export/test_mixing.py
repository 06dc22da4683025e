from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from export import recipe
from export.batches import weights_of
from export.mixing import mixing_of
from export.prepare import Places, learned_from
from export.train import _Training
from export.trunks import Trunks
from gender_edge import DataError


@pytest.mark.parametrize("mixing", ["mixup", "cutmix"])
def test_labels_are_mixed_as_pixels_are(mixing: str) -> None:
    """Black men and white women: how white a picture is, is how much of a woman is in it."""
    wanted = replace(recipe.load("slim_base"), mixing=mixing)
    torch.manual_seed(0)
    labels = torch.tensor([0, 1, 1, 0, 1, 0])
    pixels = (255 * (1 - labels)).to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 32, 32, 3)
    mix, seen = mixing_of(wanted), []
    for _ in range(20):
        both, shares = mix(pixels, labels)
        assert both.shape == pixels.shape
        torch.testing.assert_close(both.mean((1, 2, 3)) / 255, shares[:, 0])
        seen.append(shares[:, 0])
    assert 0.05 < torch.cat(seen).var() < 0.24  # neither all alike nor as they were
    assert torch.cat(seen).unique().numel() > 10


def test_no_mixing_leaves_batches_alone() -> None:
    pixels, labels = torch.zeros(2, 8, 8, 3, dtype=torch.uint8), torch.tensor([0, 1])
    assert mixing_of(recipe.load("slim_base"))(pixels, labels) == (pixels, labels)


def test_mixing_that_cannot_be_is_refused() -> None:
    wanted = recipe.load("slim_base")
    with pytest.raises(DataError, match="take mixing or teachers out"):
        mixing_of(replace(wanted, mixing="mixup", teachers=("a",)))


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
