"""Train one recipe into a run folder, resumable at any moment.

A run folder holds config.json, metrics.csv (a row an epoch), curves.png, checkpoint.safetensors
(weights and optimiser, every few minutes) and, when done, weights.safetensors.
"""

from __future__ import annotations

import csv
import json
import logging
import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, Optional

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from gender_edge.errors import DataError
from gender_edge.evaluation import FRAMINGS
from gender_edge.labelled import LABELS, Sample
from gender_edge.spec import CropRule

from . import checkpoint
from .architectures import LUMINANCE_BGR, Network, build, load_imagenet, load_trunk
from .augment import evaluation_crop, training_crop
from .data import Pack
from .recipe import Recipe

logger = logging.getLogger(__name__)

CONFIG, WEIGHTS = "config.json", "weights.safetensors"
SAVE_EVERY = 600  # s
# What of a recipe may change without a new training.
AFTER_TRAINING = frozenset(
    [
        "test",
        "license",
        "precisions",
        "default",
        "calibration",
        "calibration_images",
        "abstain_error",
    ]
)
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Views(Dataset[tuple[Tensor, int, int]]):
    """A fresh random view of a face at every visit, the same for the same seed and epoch."""

    def __init__(self, packs: list[Pack], rule: CropRule, size: int, seed: tuple[int, int]) -> None:
        self.packs, self.rule, self.size, self.seed = packs, rule, size, seed
        self.starts = np.cumsum([0] + [len(p) for p in packs])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __getitem__(self, number: int) -> tuple[Tensor, int, int]:
        part = int(np.searchsorted(self.starts, number, "right")) - 1
        pack, inside = self.packs[part], number - int(self.starts[part])
        rng = np.random.default_rng((*self.seed, number))
        sample = pack.samples[inside]
        crop = training_crop(pack.image(inside), sample, self.rule, self.size, rng)
        return torch.from_numpy(crop), LABELS.index(sample.label), number


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


def train(
    recipe: Recipe,
    train_packs: list[Pack],
    validation: dict[str, Pack],
    run: Path,
    trunk: Optional[Path] = None,
    teacher_logits: Optional[Tensor] = None,
    workers: int = 1,
) -> Network:
    """Train, or resume, and return the final network in evaluation mode.

    Args:
        train_packs: in the order of `recipe.train`.
        validation: packs by name; balanced accuracy under each framing is logged every epoch.
        run: the run folder, made if needed.
        trunk: safetensors for `init = "trunk"`.
        teacher_logits: float (sum of pack lengths, 2), what the recipe's teacher says of each.
    """
    run.mkdir(parents=True, exist_ok=True)
    _remember(recipe, run / CONFIG)
    if (run / WEIGHTS).exists():
        return finished(run)
    torch.manual_seed(recipe.seed)
    network = build(recipe.architecture, recipe.arguments, recipe.grayscale)
    _initialise(network, recipe, run.parent, trunk)
    _freeze(network, recipe.frozen)
    network.to(DEVICE, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = _optimizer(network, recipe)
    progress: dict[str, Any] = {"epoch": 0, "step": 0, "rows": []}
    saved = run / "checkpoint.safetensors"
    if saved.exists():
        progress = checkpoint.restore(saved, network, optimizer)
        logger.info(
            "%s: resumed at epoch %d, step %d", recipe.name, progress["epoch"], progress["step"]
        )
    weights = [source.weight for source in recipe.train]
    for epoch in range(progress["epoch"], recipe.epochs):
        order = draw(train_packs, weights, (recipe.seed, epoch))
        loss = _epoch(
            network,
            optimizer,
            recipe,
            epoch,
            order,
            train_packs,
            teacher_logits,
            progress,
            saved,
            workers,
        )
        accuracy = validate(network, validation, recipe.sizes[epoch])
        progress["rows"].append(
            {"epoch": epoch + 1, "size": recipe.sizes[epoch], "loss": round(loss, 5), **accuracy}
        )
        progress |= {"epoch": epoch + 1, "step": 0}
        checkpoint.save(saved, network, optimizer, progress)
        _record(progress["rows"], run)
        logger.info("%s: %s", recipe.name, progress["rows"][-1])
    partial = run / f"partial-{WEIGHTS}"
    save_file({k: v.contiguous() for k, v in network.cpu().state_dict().items()}, partial)
    partial.replace(run / WEIGHTS)
    return network.eval()


def finished(run: Path) -> Network:
    """The network of a finished run, in evaluation mode.

    Raises:
        DataError: the run is not there or not finished.
    """
    if not (run / WEIGHTS).exists():
        raise DataError(f"{run}: no finished run; build that recipe first")
    config = json.loads((run / CONFIG).read_text())
    network = build(config["architecture"], config["arguments"], config["grayscale"])
    network.load_state_dict(load_file(run / WEIGHTS))
    return network.eval()


def _remember(recipe: Recipe, path: Path) -> None:
    """Note the recipe in the run folder; refuse to go on under another one."""
    own = json.loads(json.dumps(asdict(recipe)))
    before = json.loads(path.read_text()) if path.exists() else own
    changed = {k for k in own if own[k] != before.get(k)} - AFTER_TRAINING
    if changed:
        raise DataError(
            f"{path.parent}: was trained with other {', '.join(sorted(changed))}; remove that "
            "folder to train anew, or name the recipe differently"
        )
    if own != before or not path.exists():
        path.write_text(json.dumps(own, indent=1))


def _initialise(network: Network, recipe: Recipe, runs: Path, trunk: Optional[Path]) -> None:
    if recipe.init == "trunk":
        if trunk is None or not trunk.is_file():
            raise DataError(
                f"{recipe.name} starts from a trunk ({trunk}); name its file with --init FILE"
            )
        load_trunk(network.trunk, str(trunk))  # type: ignore[arg-type]
    elif recipe.init == "imagenet":
        load_imagenet(network.trunk, str(recipe.arguments["widths"]))  # type: ignore[arg-type]
    elif recipe.init.startswith("run:"):
        state = finished(runs / recipe.init.removeprefix("run:")).state_dict()
        network.load_state_dict(_as_gray(state) if recipe.grayscale else state)
    elif recipe.init == "random":
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    else:
        raise DataError(f"init={recipe.init!r}: expected random, trunk, imagenet or run:NAME")


def _freeze(network: nn.Module, count: int) -> None:
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    for convolution in convolutions[:count]:
        convolution.requires_grad_(False)


def _as_gray(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a colour network for luminance g: grey pictures get the same answers.

    Three equal channels: sum of w_c (g - m_c) is (sum of w_c) (g - m) plus a constant, which goes
    into the bias (it is zero where the channels' means m_c are equal).
    """
    kernels, means = state["trunk.features.0.weight"], state["normalise.mean"]
    if kernels.shape[1] == 1:
        return state
    mean = (means * torch.tensor(LUMINANCE_BGR).view(1, 3, 1, 1)).sum(1, keepdim=True)
    gray = {"trunk.features.0.weight": kernels.sum(1, keepdim=True), "normalise.mean": mean}
    if "trunk.features.0.bias" in state:
        shift = (kernels * (mean - means)).sum((1, 2, 3))
        gray["trunk.features.0.bias"] = state["trunk.features.0.bias"] + shift
    return {**state, **gray}


def _optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    trained = [p for p in network.parameters() if p.requires_grad]
    decayed = [p for p in trained if p.ndim > 1]
    plain = [p for p in trained if p.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": recipe.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, recipe.learning_rate, momentum=0.9, nesterov=True)
    kind = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}.get(recipe.optimizer)
    if kind is None:
        raise DataError(f"optimizer={recipe.optimizer!r}: expected adamw, adam or sgd")
    return kind(groups, recipe.learning_rate)


def _learning_rate(recipe: Recipe, done: float) -> float:
    """Linear warm-up, then a half cosine to zero; `done` is the share of the whole training."""
    if done < recipe.warmup:
        return recipe.learning_rate * (done + 1e-3) / recipe.warmup
    return (
        recipe.learning_rate
        * 0.5
        * (1 + math.cos(math.pi * (done - recipe.warmup) / (1 - recipe.warmup)))
    )


def _epoch(
    network: Network,
    optimizer: torch.optim.Optimizer,
    recipe: Recipe,
    epoch: int,
    order: np.ndarray,
    packs: list[Pack],
    teacher: Optional[Tensor],
    progress: dict[str, Any],
    saved: Path,
    workers: int,
) -> float:
    network.train()
    batch, first = recipe.batch_size, int(progress["step"])
    torch.manual_seed((recipe.seed * 1000 + epoch) * 100_000 + first)  # dropout, after a resume too
    steps = len(order) // batch
    views = Views(packs, CropRule(), recipe.sizes[epoch], (recipe.seed, epoch))
    loader = DataLoader(
        views, batch, sampler=order[first * batch : steps * batch].tolist(), num_workers=workers
    )
    bar = tqdm(
        loader,
        f"{recipe.name} {epoch + 1}/{recipe.epochs}",
        total=steps,
        initial=first,
        mininterval=5,
        disable=None,
    )
    total, seen, last_saved = 0.0, 0, time.monotonic()
    for step, (pixels, labels, numbers) in enumerate(bar, first):
        rate = _learning_rate(recipe, (epoch + step / steps) / recipe.epochs)
        for group in optimizer.param_groups:
            group["lr"] = rate
        with torch.autocast(DEVICE.type, torch.bfloat16):
            logits = network(pixels.to(DEVICE, non_blocking=True))
        hints = None if teacher is None else teacher[numbers].to(DEVICE)
        loss = _loss(logits.float(), labels.to(DEVICE), hints, recipe)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        total, seen = total + loss.item(), seen + 1
        bar.set_postfix(loss=f"{total / seen:.4f}", lr=f"{rate:.1e}", refresh=False)
        if time.monotonic() - last_saved > SAVE_EVERY:
            checkpoint.save(
                saved, network, optimizer, {**progress, "epoch": epoch, "step": step + 1}
            )
            last_saved = time.monotonic()
    return total / max(seen, 1)


def _loss(logits: Tensor, labels: Tensor, hints: Optional[Tensor], recipe: Recipe) -> Tensor:
    """Log-softmax and NLL on labels, mixed with distillation (Hinton et al. 2015)."""
    hard = functional.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)
    if hints is None:
        return hard
    t, share = recipe.distill_temperature, recipe.distill_weight
    soft = functional.kl_div(
        functional.log_softmax(logits / t, 1),
        functional.softmax(hints / t, 1),
        reduction="batchmean",
    )
    return (1 - share) * hard + share * t * t * soft


@torch.inference_mode()
def predict(network: Network, pack: Pack, size: int, framing: str, batch: int = 128) -> Tensor:
    """Logits (N, 2) of every picture of a pack under one framing."""
    network.eval()
    rule, parts = CropRule(), []
    for start in range(0, len(pack), batch):
        numbers = range(start, min(start + batch, len(pack)))
        crops = [
            evaluation_crop(pack.image(i), pack.samples[i], rule, size, framing) for i in numbers
        ]
        with torch.autocast(DEVICE.type, torch.bfloat16):
            parts.append(network(torch.from_numpy(np.stack(crops)).to(DEVICE)).float().cpu())
    return torch.cat(parts)


def validate(network: Network, packs: dict[str, Pack], size: int) -> dict[str, float]:
    """Balanced accuracy in per cent, by set and framing, and the mean over all of them."""
    scores = {}
    for name, pack in packs.items():
        truth = targets(pack.samples)
        for framing in FRAMINGS:
            right = predict(network, pack, size, framing).argmax(1) == truth
            per_class = [right[truth == c].float().mean().item() for c in range(len(LABELS))]
            scores[f"{name}/{framing}"] = round(100 * float(np.mean(per_class)), 2)
    return {**scores, "mean": round(float(np.mean(list(scores.values()))), 3)}


def targets(samples: list[Sample]) -> Tensor:
    """Class numbers, int64 (N,)."""
    return torch.tensor([LABELS.index(s.label) for s in samples])


def _record(rows: list[dict[str, float]], run: Path) -> None:
    with (run / "metrics.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    from .plots import curves

    curves(rows, run / "curves.png")
