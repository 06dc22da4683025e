"""What is finished, copied to where `Classifier()` finds it: the models' folder, its registry."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from gender_edge.zoo import CARD, EVALUATION, MODEL, REGISTRY

from .files import digest, replacing, write


def ship(folder: Path, models: Path, default: bool = False, section: str = "models") -> str:
    """Copy a finished model into the registry's folder and note its checksum; returns its name.

    Args:
        default: whether `Classifier()` shall open this one (the first one shipped does anyway).
        section: of the registry: classifiers are "models", face detectors "detectors".
    """
    spec = json.loads((folder / EVALUATION).read_text())["spec"]
    name = str(spec["name"])
    home = models / name
    home.mkdir(parents=True, exist_ok=True)
    for file in (MODEL, EVALUATION, CARD):
        with replacing(home / file) as copy:
            shutil.copyfile(folder / file, copy)
    registry_file, model = models / REGISTRY, home / MODEL
    registry: dict[str, Any] = {"default": None, "models": {}}
    if registry_file.exists():
        registry = json.loads(registry_file.read_text())
    entry = {"sha256": digest(model), "bytes": model.stat().st_size}
    registry[section] = dict(sorted({**registry.get(section, {}), name: entry}.items()))
    if section == "models" and (default or registry["default"] not in registry["models"]):
        registry["default"] = name
    write(registry_file, json.dumps(registry, indent=1) + "\n")
    return name
