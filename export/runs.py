"""Run folders: config.json, checkpoint, metrics.csv, curves.png, and in the end the weights."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, asdict, fields
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from gender_edge.errors import DataError

from . import plots
from .architectures import Network, build
from .recipe import Recipe

CONFIG, CHECKPOINT, WEIGHTS = "config.json", "checkpoint.safetensors", "weights.safetensors"
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
    "abstain_error",
}


def remember(recipe: Recipe, run: Path) -> None:
    """Note the recipe in the run folder.

    Raises:
        DataError: the run was begun with another one.
    """
    run.mkdir(parents=True, exist_ok=True)
    path = run / CONFIG
    own = json.loads(json.dumps(asdict(recipe)))
    before = json.loads(path.read_text()) if path.exists() else own
    # What recipes could not say yet when the run was begun, was as it is by default.
    default = {f.name: json.loads(json.dumps(f.default)) for f in fields(Recipe) if _optional(f)}
    changed = {k for k in own if own[k] != before.get(k, default.get(k))} - AFTER_TRAINING
    if changed:
        raise DataError(
            f"{run}: was trained with other {', '.join(sorted(changed))}; remove that folder to "
            "train anew, or name the recipe differently"
        )
    if own != before or not path.exists():
        path.write_text(json.dumps(own, indent=1))


def _optional(field: Field[Any]) -> bool:
    return field.default is not MISSING


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


def trained_size(run: Path) -> int:
    """Side of the crops that a run's network is meant for, in pixels."""
    return int(json.loads((run / CONFIG).read_text())["input_size"])


def record(rows: Sequence[Mapping[str, float]], run: Path) -> None:
    """Metrics by epoch, as a table and as a picture."""
    with (run / "metrics.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    plots.curves(rows, run / "curves.png")
