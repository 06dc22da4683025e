"""Run folders: config.json, splits, initial weights, checkpoint, metrics.csv, curves.png, and in
the end the weights; of teachers, what they said of views.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from gender_edge.errors import DataError
from gender_edge.samples import Sample

from . import plots
from .architectures import Network, build
from .files import replacing, write
from .recipe import Recipe

CONFIG, CHECKPOINT, WEIGHTS = "config.json", "checkpoint.safetensors", "weights.safetensors"
INITIAL = "initial.safetensors"
BUILT = "int8/model.onnx"  # what a variant that was built, or restored, answers by
RESTORED = "restored"  # in the header of weights: SHA-256 of the shipped file they were read from
# What of a recipe may change without a new training.
AFTER_TRAINING = {
    "test",
    "license",
    "origin",
    "precisions",
    "default",
    "calibration",
    "calibration_images",
    "gate",
    "aware_epochs",
    "abstain_error",
    "protocol",
    "published",
}


def remember(recipe: Recipe, run: Path) -> None:
    """Note the recipe in the run folder.

    Raises:
        DataError: the run was begun with another one.
    """
    run.mkdir(parents=True, exist_ok=True)
    if changed := differing(recipe, run):
        raise DataError(
            f"{run}: was trained with other {', '.join(sorted(changed))}; remove that folder to "
            "train anew, or name the recipe differently"
        )
    own = _plain(asdict(recipe))
    path = run / CONFIG
    if not path.exists() or own != config(run):  # a newer file has INT8 made and tested anew
        write(path, json.dumps(own, indent=1))


def differing(recipe: Recipe, run: Path) -> set[str]:
    """What the training of a run, if it was begun, was asked otherwise than by this recipe."""
    if not (run / CONFIG).exists():
        return set()
    own, before = _plain(asdict(recipe)), config(run)
    return {k for k in own if own[k] != before.get(k)} - AFTER_TRAINING


def config(run: Path) -> dict[str, Any]:
    """The recipe that a run was begun with, as plain values.

    What recipes could not say yet at that time was as it is by default.
    """
    default = {f.name: f.default for f in fields(Recipe) if f.default is not MISSING}
    return {**_plain(default), **json.loads((run / CONFIG).read_text())}


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """As JSON gives them back: lists for tuples."""
    plain: dict[str, Any] = json.loads(json.dumps(values))
    return plain


def weights_in(run: Path) -> Path:
    """The weights of a finished run.

    Raises:
        DataError: the run is not there or not finished.
    """
    if not (run / WEIGHTS).exists():
        raise DataError(
            f"{run}: no finished run; make it with `python -m export build {run.name}`, or "
            f"`restore {run.name}` if it is shipped"
        )
    return run / WEIGHTS


def finished(run: Path) -> Network:
    """The network of a finished run, in evaluation mode.

    Raises:
        DataError: the run is not there or not finished.
    """
    weights, own = weights_in(run), config(run)
    network = build(own["architecture"], own["arguments"], own["grayscale"])
    network.load_state_dict(load_file(weights))
    return network.eval()


def trained_size(run: Path) -> int:
    """Side of the crops that a run's network is meant for, in pixels."""
    return int(config(run)["input_size"])


def save_weights(state: Mapping[str, Tensor], path: Path, **notes: str) -> None:
    """Write a network's weights, and notes into their header: whole or not at all."""
    with replacing(path) as partial:
        save_file({k: v.contiguous().cpu() for k, v in state.items()}, partial, metadata=notes)


def trained_by(run: Path) -> str:
    """The processor that finished a run; "" where that was not noted yet."""
    return _noted(run, "device")


def restored(run: Path) -> bool:
    """Whether a run was made of shipped files, by `export.restore`, and not trained."""
    return bool(restored_from(run))


def restored_from(run: Path) -> str:
    """SHA-256 of the shipped file that a run's weights were read from; "" where they were trained,
    or are not there.
    """
    return _noted(run, RESTORED) if (run / WEIGHTS).exists() else ""


def _noted(run: Path, key: str) -> str:
    """What the header of a run's weights says; "" for nothing."""
    with safe_open(run / WEIGHTS, "pt") as file:
        return str((file.metadata() or {}).get(key, ""))


def keep_split(samples: Iterable[Sample], run: Path, name: str) -> None:
    """Note in `RUN/splits/NAME.csv` which pictures a split had, and their labels."""
    folder = run / "splits"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["picture", "label"])
        writer.writerows((s.name, s.label) for s in samples)


def record(rows: Sequence[Mapping[str, float]], run: Path) -> None:
    """Metrics by epoch, as a table and as a picture."""
    table(rows, run)
    plots.curves(rows, run / "curves.png")


def table(rows: Sequence[Mapping[str, float]], run: Path) -> None:
    """RUN/metrics.csv."""
    with (run / "metrics.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)))
        writer.writeheader()
        writer.writerows(rows)
