"""Train the detector into a run folder on scenes drawn on the fly, resumable at any moment.

RUN/config.json   learned_from.json   checkpoint.safetensors   metrics.csv   weights.safetensors
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Optional

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from gender_edge.errors import DataError
from gender_edge.faces import Detector, YuNet
from gender_edge.faces.spotter import decode
from gender_edge.tracks import overlaps

from ..files import digest, write
from ..precision import DEVICE, autocast
from ..provenance import check_unchanged, pictures_of
from ..runs import CHECKPOINT, CONFIG, WEIGHTS, save_weights, table
from ..training import checkpoint
from ..training.train import LARGEST_GRADIENT, SAVE_EVERY, learning_rate
from .losses import losses
from .network import STRIDES, WIDTHS, SpotterNetwork
from .scenes import SHAPES, SHARES, Faced, Scene, heard, scene
from .targets import targets

logger = logging.getLogger(__name__)

LEAST_HEARD = 0.2  # score of the teacher's from which on it has seen something
VALIDATION_SCENES = 128
VALIDATION_SEED = 1_000_003  # no training has this one
FOUND = 0.5  # intersection over union with the truth


@dataclass(frozen=True)
class Settings:
    """Everything that decides how the detector is trained.

    Attributes:
        steps: batches in all.
        every: steps between two rows of metrics.csv.
        widths: of `SpotterNetwork`.
        init: weights to go on from, a file of an earlier training; "" for none.
    """

    steps: int = 20_000
    batch_size: int = 32
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    warmup: float = 0.03
    every: int = 500
    seed: int = 0
    widths: tuple[tuple[int, ...], ...] = WIDTHS
    init: str = ""


class Batches(Dataset[tuple[np.ndarray, np.ndarray, np.ndarray]]):
    """The batch of a step, the same for the same seed: frames of one shape, uint8 (N, H, W, 3), and
    their targets' states and values.
    """

    def __init__(self, faced: Faced, teacher: Optional[Path], settings: Settings) -> None:
        self.faced, self.settings = faced, settings
        self._file = teacher
        self._teacher: Optional[Detector] = None

    def __len__(self) -> int:
        return self.settings.steps

    def __getitem__(self, step: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rng = np.random.default_rng((self.settings.seed, step))
        shape = SHAPES[int(rng.choice(len(SHAPES), p=SHARES))]
        scenes = [self._scene(shape, step, i) for i in range(self.settings.batch_size)]
        both = [targets(s.boxes, s.landmarks, s.ignored, shape, STRIDES) for s in scenes]
        states, values = zip(*both)
        return np.stack([s.frame for s in scenes]), np.stack(states), np.stack(values)

    def _scene(self, shape: tuple[int, int], step: int, number: int) -> Scene:
        rng = np.random.default_rng((self.settings.seed, step, number))
        drawn = scene(self.faced, shape, rng)
        if self._file is None:
            return drawn
        if self._teacher is None:  # opened in the process that asks it
            self._teacher = teacher_of(self._file)
        return heard(drawn, self._teacher)


def teacher_of(yunet: Path) -> Detector:
    """YuNet, saying all that it has an inkling of."""
    return YuNet(str(yunet), minimum=LEAST_HEARD)


def validation_scenes(faced: Faced, teacher: Optional[Path]) -> list[Scene]:
    """The scenes that a training is watched on, always the same."""
    settings = Settings(seed=VALIDATION_SEED, steps=1, batch_size=1)
    batches = Batches(faced, teacher, settings)
    return [batches._scene(SHAPES[0], 0, i) for i in range(VALIDATION_SCENES)]


def train(
    faced: Faced,
    validation: Faced,
    teacher: Optional[Path],
    settings: Settings,
    run: Path,
    workers: int = 1,
) -> SpotterNetwork:
    """Train, or resume, and return the final network in evaluation mode.

    Args:
        faced, validation: pictures for scenes to learn from, and to note figures on.
        teacher: a YuNet file; None to believe every pasted face (see `scenes.heard`).
        run: the run folder, made if needed.
        workers: processes that draw scenes; 0 draws them in this one.

    Raises:
        DataError: the run was begun with other settings, another teacher or other pictures.
    """
    _remember(settings, faced, teacher, run)
    network = SpotterNetwork(settings.widths)
    if not (run / WEIGHTS).exists():
        training = _Training(settings, run)
        training.resume()
        training.go(
            Batches(faced, teacher, settings), validation_scenes(validation, teacher), workers
        )
    network.load_state_dict(load_file(run / WEIGHTS))
    return network.eval()


def _remember(settings: Settings, faced: Faced, teacher: Optional[Path], run: Path) -> None:
    """Note in the run folder what it is begun with, or see that it is still that."""
    path, own = run / CONFIG, json.loads(json.dumps(asdict(settings)))
    if path.exists() and json.loads(path.read_text()) != own:
        raise DataError(
            f"{run}: was trained with other settings (see {CONFIG}); give the same ones, or remove "
            "that folder to train anew"
        )
    file = {} if teacher is None else {"the YuNet file": digest(teacher)}
    check_unchanged({**file, **pictures_of(faced.packs)}, run)
    if not path.exists():
        write(path, json.dumps(own, indent=1) + "\n")


class _Training:
    """The network on its way: weights, optimiser, place in the schedule."""

    def __init__(self, settings: Settings, run: Path) -> None:
        self.settings, self.run, self.step = settings, run, 0
        self.rows: list[dict[str, float]] = []
        torch.manual_seed(settings.seed)
        network = SpotterNetwork(settings.widths)
        if settings.init:
            network.load_state_dict(load_file(settings.init))
        self.network: SpotterNetwork = network.to(DEVICE, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = torch.optim.AdamW(
            network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay
        )

    def go(self, batches: Batches, validation: Sequence[Scene], workers: int) -> None:
        """Train to the end."""
        left = range(self.step, self.settings.steps)
        loader = DataLoader(batches, None, sampler=left, num_workers=workers)
        bar = tqdm(loader, "detector", self.settings.steps, initial=self.step, disable=None)
        sums: dict[str, Tensor] = {}
        saved, begun = time.monotonic(), self.step
        self.network.train()
        for batch in bar:
            for name, loss in self._learn(*(part.to(DEVICE) for part in batch)).items():
                sums[name] = sums.get(name, torch.zeros((), device=DEVICE)) + loss
            self.step += 1
            if self.step % self.settings.every == 0 or self.step == self.settings.steps:
                means = {name: float(own) / (self.step - begun) for name, own in sums.items()}
                self._note(means, validation)
                sums, begun = {}, self.step
            if time.monotonic() - saved > SAVE_EVERY:
                self.save()
                saved = time.monotonic()
        save_weights(self.network.state_dict(), self.run / WEIGHTS)

    def _learn(self, pixels: Tensor, states: Tensor, values: Tensor) -> dict[str, Tensor]:
        done = self.step / self.settings.steps
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.settings.learning_rate, self.settings.warmup, done)
        with autocast(DEVICE):
            maps = self.network(pixels)
        parts = losses(maps, states, values)
        self.optimizer.zero_grad()
        torch.stack(list(parts.values())).sum().backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), LARGEST_GRADIENT)
        self.optimizer.step()
        return {name: part.detach() for name, part in parts.items()}

    def _note(self, means: dict[str, float], validation: Sequence[Scene]) -> None:
        row = {"step": self.step, **means, **watch(self.network, validation)}
        self.rows.append({name: round(value, 5) for name, value in row.items()})
        table(self.rows, self.run)
        self.save()
        logger.info("detector: %s", self.rows[-1])

    def save(self) -> None:
        """Write a checkpoint."""
        progress = {"step": self.step, "rows": self.rows}
        modules = {"network": self.network}
        checkpoint.save(self.run / CHECKPOINT, modules, self.optimizer, progress)

    def resume(self) -> None:
        """Go on from the checkpoint, if there is one."""
        path = self.run / CHECKPOINT
        if path.exists():
            progress = checkpoint.restore(path, {"network": self.network}, self.optimizer)
            self.step, self.rows = int(progress["step"]), progress["rows"]
            logger.info("detector: resumed at step %d", self.step)


@torch.inference_mode()
def watch(
    network: SpotterNetwork, scenes: Sequence[Scene], minimum: float = 0.5
) -> dict[str, float]:
    """Share of the scenes' faces that are found, and answers a frame where there is none."""
    network.eval()
    found, faces, wrong = 0, 0, 0
    for own in scenes:
        maps = network(torch.from_numpy(own.frame)[None].to(DEVICE))
        said = decode([m[0].float().cpu().numpy() for m in maps], STRIDES, minimum).boxes
        both = overlaps(own.boxes, said) >= FOUND
        found, faces = found + int(both.any(1).sum()), faces + len(own.boxes)
        known = np.concatenate([own.boxes, own.ignored])
        wrong += int((~(overlaps(known, said) > 0.2).any(0)).sum())
    network.train()
    return {"found": found / max(1, faces), "wrong": wrong / max(1, len(scenes))}
