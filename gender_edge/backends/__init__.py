"""Engines that run a network. Each is a small class with the same members: see `Backend`."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np

from ..spec import ModelSpec


class Backend(Protocol):
    """What `Classifier` needs of an engine.

    Attributes:
        spec: what the model says about itself.
        name: engine and version, as reports print it.
        provider: what it computes on, as the engine itself says.
    """

    spec: ModelSpec
    name: str
    provider: str

    def run(self, batch: np.ndarray) -> np.ndarray:
        """uint8 (N, S, S, 3) to logits float32 (N, 2). Safe to call from many threads."""

    def close(self) -> None:
        """Free what the engine holds; later calls of `run` raise BackendError."""


@runtime_checkable
class ResidentBackend(Protocol):
    """What a backend has besides, if it computes where a GPU's arrays lie."""

    def run_resident(self, batch: Any) -> np.ndarray:
        """As `Backend.run`, for an array that `gender_edge.gpu_arrays` can borrow."""
