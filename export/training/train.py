"""Train one recipe into a run folder, resumable at any moment."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Optional

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from gender_edge.errors import DataError

from ..architectures import Network
from ..architectures.trunks import Trunks
from ..compression import rounding
from ..data.batches import batches, steps_of, weights_of
from ..data.mixing import mixing_of
from ..data.packs import Pack
from ..precision import DEVICE, autocast
from ..provenance import check_sources
from ..recipe import Recipe
from ..runs import (
    CHECKPOINT,
    INITIAL,
    WEIGHTS,
    finished,
    keep_split,
    record,
    remember,
    restored,
    save_weights,
)
from ..validate import by_group, by_network, judged, scored
from . import checkpoint
from .initial import initial_network, with_start_widths
from .lessons import Lessons

logger = logging.getLogger(__name__)

SAVE_EVERY = 600  # s
LARGEST_GRADIENT = 5.0  # norm


def train(
    recipe: Recipe,
    packs: list[Pack],
    validation: Mapping[str, Pack],
    run: Path,
    trunks: Trunks = Trunks(),  # noqa: B008
    workers: int = 1,
) -> Network:
    """Train, or resume, and return the final network in evaluation mode.

    Args:
        packs: pictures to learn from, in the order of `recipe.train`.
        validation: packs by name; balanced accuracy under each framing, and by group under the
            first, is noted every epoch.
        run: the run folder, made if needed.
        trunks: for `init = "trunk"` or `"imagenet"`, and to estimate ages with.
        workers: processes that prepare views; 0 prepares them in this one.

    Raises:
        DataError: the recipe cannot be trained, or the run was begun with another one.
        ModelError: the shipped model that it starts from is not there.
    """
    if restored(run):
        raise DataError(f"{run}: was restored from shipped files; remove that folder to train anew")
    recipe = with_start_widths(recipe, packs, run, trunks, workers)
    if (run / WEIGHTS).exists():
        check_sources(recipe, packs, run)
        remember(recipe, run)
        return finished(run)
    weights = weights_of(recipe, packs, trunks.ages, run.parent)
    steps_of(recipe, weights)  # too few pictures are noticed before the run is begun
    check_sources(recipe, packs, run)
    remember(recipe, run)
    training = _Training(recipe, packs, run, trunks)
    training.resume()
    _keep_splits(packs, weights, validation, run)
    while training.epoch < recipe.epochs:
        loss = training.run_epoch(packs, weights, workers)
        size = recipe.sizes[training.epoch]
        right = judged(by_network(training.result), validation, size, recipe.framings)
        scores = {**scored(right, validation), **by_group(right, validation)}
        training.close_epoch(loss, scores)
    training.finish()
    return finished(run)


def _keep_splits(
    packs: list[Pack], weights: np.ndarray, validation: Mapping[str, Pack], run: Path
) -> None:
    """Note what is learnt from and validated on; pictures that are never drawn are not."""
    start = 0
    for pack in packs:
        drawn = weights[start : start + len(pack)] > 0
        keep_split([s for s, d in zip(pack.samples, drawn) if d], run, pack.folder.name)
        start += len(pack)
    for pack in validation.values():
        keep_split(pack.samples, run, pack.folder.name)


class _Training:
    """A network on its way: weights, their running average, optimiser, place in the schedule."""

    def __init__(self, recipe: Recipe, packs: list[Pack], run: Path, trunks: Trunks) -> None:
        self.recipe, self.run, self.mix = recipe, run, mixing_of(recipe)
        network = initial_network(recipe, run, trunks)
        if not (run / INITIAL).exists():
            save_weights(network.state_dict(), run / INITIAL)
        if recipe.rounding:
            rounding.begin(network)
        self.network: Network = network.to(DEVICE, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.lessons = Lessons(recipe, network.trunk.width, packs, run.parent).to(DEVICE)
        self.optimizer = optimizer_of(recipe, nn.ModuleList([network, self.lessons]))
        self.average: Optional[AveragedModel] = None
        if recipe.average_decay:
            step = get_ema_multi_avg_fn(recipe.average_decay)  # type: ignore[no-untyped-call]
            self.average = AveragedModel(network, multi_avg_fn=step, use_buffers=True)
        self.epoch, self.step = 0, 0
        self.losses = torch.zeros(2, device=DEVICE)  # their sum in this epoch, and how many
        self.rows: list[dict[str, float]] = []

    @property
    def result(self) -> nn.Module:
        """What counts: the running average where there is one."""
        return self.network if self.average is None else self.average.module

    def run_epoch(self, packs: list[Pack], weights: np.ndarray, workers: int) -> float:
        """Train to the end of the present epoch; returns its mean loss."""
        steps, first = steps_of(self.recipe, weights), self.step
        seed = (self.recipe.seed * 1000 + self.epoch) * 100_000 + first
        torch.manual_seed(seed)  # dropout, after a resume too
        bar = tqdm(
            batches(self.recipe, packs, weights, self.epoch, first, workers),
            f"{self.recipe.name} {self.epoch + 1}/{self.recipe.epochs}",
            total=steps,
            initial=first,
            mininterval=5,
            disable=None,
        )
        self.network.train()
        saved = time.monotonic()
        for batch in bar:
            done = (self.epoch + self.step / steps) / self.recipe.epochs
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate(
                    self.recipe.learning_rate, self.recipe.warmup, done, self.recipe.schedule
                )
            loss = self._learn(*(part.to(DEVICE, non_blocking=True) for part in batch))
            self.losses += torch.stack([loss, torch.ones_like(loss)])
            self.step += 1
            if time.monotonic() - saved > SAVE_EVERY:
                self.save()
                saved = time.monotonic()
        total, count = self.losses.tolist()
        return total / count if count else math.nan

    def _learn(self, pixels: Tensor, labels: Tensor, numbers: Tensor) -> Tensor:
        pixels, shares = self.mix(pixels)
        with autocast(DEVICE):
            logits, embedding = self.network.answer(pixels)
        loss = self.lessons(logits.float(), embedding.float(), labels, numbers, pixels, shares)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), LARGEST_GRADIENT)
        self.optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.network)
        return loss.detach()

    def close_epoch(self, loss: float, scores: Mapping[str, float]) -> None:
        """Note an epoch's figures and go to the next."""
        size = self.recipe.sizes[self.epoch]
        row = {"epoch": self.epoch + 1, "size": size, "loss": round(loss, 5), **scores}
        self.rows.append(row)
        self.epoch, self.step = self.epoch + 1, 0
        self.losses.zero_()
        self.save()
        record(self.rows, self.run)
        logger.info("%s: %s", self.recipe.name, row)

    def save(self) -> None:
        """Write a checkpoint."""
        progress = {
            "epoch": self.epoch,
            "step": self.step,
            "losses": self.losses.tolist(),
            "rows": self.rows,
        }
        checkpoint.save(self.run / CHECKPOINT, self._modules(), self.optimizer, progress)

    def resume(self) -> None:
        """Go on from the checkpoint, if there is one."""
        path = self.run / CHECKPOINT
        if path.exists():
            progress = checkpoint.restore(path, self._modules(), self.optimizer)
            self.epoch, self.step = int(progress["epoch"]), int(progress["step"])
            self.rows = progress["rows"]
            # Checkpoints did not say this at first: then it is the mean loss of the epoch's rest.
            self.losses += torch.tensor(progress.get("losses", (0.0, 0.0)), device=DEVICE)
            logger.info("%s: resumed at epoch %d, step %d", self.recipe.name, self.epoch, self.step)

    def _modules(self) -> dict[str, nn.Module]:
        average = {} if self.average is None else {"average": self.average}
        return {"network": self.network, "lessons": self.lessons, **average}

    def finish(self) -> None:
        """Write the weights: the run is complete."""
        gpu = DEVICE.type == "cuda"
        save_weights(
            rounding.state(self.result),
            self.run / WEIGHTS,
            device=torch.cuda.get_device_name() if gpu else "CPU",
        )


def optimizer_of(recipe: Recipe, network: nn.Module) -> torch.optim.Optimizer:
    """The recipe's optimiser; biases and normalisation are not decayed."""
    trained = [p for p in network.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, recipe.learning_rate, momentum=0.9, nesterov=True)
    kind = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[recipe.optimizer]
    return kind(groups, recipe.learning_rate)


def learning_rate(highest: float, warmup: float, done: float, schedule: str = "cosine") -> float:
    """Linear warm-up, then constant or a half cosine to zero; `done` is the share of the whole
    training.
    """
    if done < warmup:
        return highest * (done + 1e-3) / warmup
    if schedule == "constant":
        return highest
    turn = math.pi * (done - warmup) / (1 - warmup)
    return highest * 0.5 * (1 + math.cos(turn))
