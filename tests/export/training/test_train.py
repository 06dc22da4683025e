from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from export import recipe
from export.architectures.trunks import Trunks
from export.compression import prune
from export.data.batches import steps_of, weights_of
from export.data.packs import Pack
from export.data.prepare import Places, learned_from
from export.recipe import Recipe
from export.runs import CHECKPOINT, CONFIG, WEIGHTS, config, remember
from export.training.lessons import Lessons
from export.training.train import _Training, train
from gender_edge import DataError


@pytest.fixture
def wanted(recipe_file: Path) -> Recipe:
    """One epoch of few steps."""
    return replace(recipe.load(str(recipe_file)), sizes=(24,), batch_size=128)


@pytest.fixture
def packs(wanted: Recipe, places: Places) -> list[Pack]:
    return learned_from(wanted, places)[0]


def test_fewer_pictures_than_a_batch_are_refused(
    wanted: Recipe, packs: list[Pack], tmp_path: Path
) -> None:
    """Before the run is begun: it can be asked for again with smaller batches."""
    large = replace(wanted, batch_size=10**6)
    with pytest.raises(DataError, match=r"draws \d+ pictures, in batches of 1000000: lower batch"):
        train(large, packs, {}, tmp_path / "run", workers=0)
    assert not (tmp_path / "run").exists()
    with pytest.raises(DataError, match="lower batch_size"):
        prune.probes_of(large, packs, tmp_path, Trunks(), workers=0)


class InterruptionError(Exception):
    pass


@pytest.mark.parametrize("stop", [2, None], ids=["in the middle", "behind the last step"])
def test_a_loss_is_that_of_the_whole_epoch(
    wanted: Recipe,
    packs: list[Pack],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stop: int | None,
) -> None:
    losses: list[float] = []
    forward = Lessons.forward

    def noting(self: Lessons, *batch: Tensor) -> Tensor:
        if len(losses) == stop:
            raise InterruptionError
        loss = forward(self, *batch)
        losses.append(loss.item())
        return loss

    monkeypatch.setattr(Lessons, "forward", noting)
    monkeypatch.setattr("export.training.train.SAVE_EVERY", -1)
    weights = weights_of(wanted, packs, None, tmp_path)
    with suppress(InterruptionError):
        _Training(wanted, packs, tmp_path, Trunks()).run_epoch(packs, weights, workers=0)
    stop = None
    resumed = _Training(wanted, packs, tmp_path, Trunks())
    resumed.resume()
    loss = resumed.run_epoch(packs, weights, workers=0)
    assert len(losses) == steps_of(wanted, weights) > 2
    assert loss == pytest.approx(np.mean(losses), rel=1e-5)
    resumed.close_epoch(loss, {"faces/aligned": 50.0})
    assert resumed.losses.tolist() == [0, 0]


def test_the_running_average_is_what_counts(
    wanted: Recipe, packs: list[Pack], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[dict[str, Tensor]] = []
    learn = _Training._learn

    def noting(self: _Training, *batch: Tensor) -> Tensor:
        loss = learn(self, *batch)
        steps.append({k: v.clone().cpu() for k, v in self.network.state_dict().items()})
        return loss

    monkeypatch.setattr(_Training, "_learn", noting)
    train(replace(wanted, average_decay=0.6), packs, {"faces": packs[0]}, tmp_path, workers=0)
    expected = steps[0]
    for state in steps[1:]:
        expected = {k: 0.6 * expected[k] + 0.4 * state[k] for k in expected}
    kept, last = load_file(tmp_path / WEIGHTS), load_file(tmp_path / CHECKPOINT)
    for key, value in expected.items():
        if value.ndim:  # but for the number of batches seen
            torch.testing.assert_close(kept[key], value, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(last[f"network.{key}"], steps[-1][key])
    head = "trunk.head.weight"
    assert not torch.allclose(kept[head], steps[-1][head], rtol=1e-3)


def test_what_recipes_can_say_since_does_not_touch_a_run(wanted: Recipe, tmp_path: Path) -> None:
    """A newer config.json would have INT8 made and tested anew."""
    remember(wanted, tmp_path)
    own = {k: v for k, v in config(tmp_path).items() if k not in ("warmup", "clean")}
    (tmp_path / CONFIG).write_text(json.dumps(own))
    remember(wanted, tmp_path)
    assert json.loads((tmp_path / CONFIG).read_text()) == own
    with pytest.raises(DataError, match="other warmup; remove"):
        remember(replace(wanted, warmup=0.5), tmp_path)
    remember(replace(wanted, license="another"), tmp_path)
    assert config(tmp_path)["license"] == "another"
