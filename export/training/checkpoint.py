"""A training state in one safetensors file: weights, optimiser moments and a JSON header.

No pickle anywhere: a checkpoint from a stranger can be opened.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ..files import replacing

OPTIMIZER = "optimizer"


def save(
    path: Path,
    modules: Mapping[str, nn.Module],
    optimizer: torch.optim.Optimizer,
    progress: dict[str, Any],
) -> None:
    """Write modules by name, optimiser state and `progress` (JSON): whole or not at all."""
    tensors = {
        f"{name}.{key}": value.detach().clone().contiguous()
        for name, module in modules.items()
        for key, value in module.state_dict().items()
    }
    for number, state in optimizer.state_dict()["state"].items():
        for key, value in state.items():
            if value is not None:
                tensors[f"{OPTIMIZER}.{number}.{key}"] = torch.as_tensor(value).clone().contiguous()
    with replacing(path) as partial:
        save_file(tensors, partial, metadata={"progress": json.dumps(progress)})


def restore(
    path: Path, modules: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer
) -> dict[str, Any]:
    """Put back what `save` wrote; returns its `progress`."""
    states: dict[str, dict[str, Tensor]] = {name: {} for name in (*modules, OPTIMIZER)}
    with safe_open(path, "pt") as file:
        for key in file.keys():  # noqa: SIM118  (safe_open is not a dict)
            name, rest = key.split(".", 1)
            states[name][rest] = file.get_tensor(key)
        progress: dict[str, Any] = json.loads(file.metadata()["progress"])
    for name, module in modules.items():
        module.load_state_dict(states[name])
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in states[OPTIMIZER].items():
        number, part = key.split(".")
        moments.setdefault(int(number), {})[part] = value
    state = optimizer.state_dict()
    state["state"] = moments
    optimizer.load_state_dict(state)
    return progress
