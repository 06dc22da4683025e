"""A training state in one safetensors file: weights, optimiser moments and a JSON header.

No pickle anywhere: a checkpoint from a stranger can be opened.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn


def save(
    path: Path, network: nn.Module, optimizer: torch.optim.Optimizer, progress: dict[str, Any]
) -> None:
    """Write weights, optimiser state and `progress` (JSON) at once: whole or not at all."""
    tensors = {
        f"network.{k}": v.detach().clone().contiguous() for k, v in network.state_dict().items()
    }
    for number, state in optimizer.state_dict()["state"].items():
        for key, value in state.items():
            if value is not None:
                tensors[f"optimizer.{number}.{key}"] = torch.as_tensor(value).clone().contiguous()
    partial = path.with_suffix(".partial")
    save_file(tensors, partial, metadata={"progress": json.dumps(progress)})
    partial.replace(path)


def restore(path: Path, network: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Put back what `save` wrote; returns its `progress`."""
    weights: dict[str, Tensor] = {}
    moments: dict[int, dict[str, Tensor]] = {}
    with safe_open(path, "pt") as file:
        for key in file.keys():  # noqa: SIM118  (safe_open is not a dict)
            kind, rest = key.split(".", 1)
            if kind == "network":
                weights[rest] = file.get_tensor(key)
            else:
                number, name = rest.split(".")
                moments.setdefault(int(number), {})[name] = file.get_tensor(key)
        progress: dict[str, Any] = json.loads(file.metadata()["progress"])
    network.load_state_dict(weights)
    state = optimizer.state_dict()
    state["state"] = moments
    optimizer.load_state_dict(state)
    return progress
