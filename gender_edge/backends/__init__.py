"""Engines that run a network. Each is a small class with the same members: see `Backend`."""

from __future__ import annotations

from typing import Protocol

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
