"""What is measured: one of our variants, or a peer as its users run it, behind the same members.

A subject is described by plain values (a dict that travels to another process as JSON) and opened
where it is measured.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

KEPT = (
    "balanced_accuracy",
    "female_right",
    "male_right",
    "ece",
    "reliability",
    "risk_coverage",
    "framed",
    "groups",
)


@dataclass(frozen=True)
class Face:
    """A face in a picture.

    Attributes:
        image: uint8 (H, W, 3) BGR.
        box: x, y, width, height in pixels; None where nothing found the face.
        landmarks: float (5, 2) in pixels: eyes, nose tip, mouth corners; None likewise.
    """

    image: np.ndarray
    box: tuple[float, ...] | None
    landmarks: np.ndarray | None


class Subject(ABC):
    """A face classifier that can be timed."""

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """Name, engine, precision, input_size, bytes; parameters and macs where they are known."""

    @abstractmethod
    def blank(self, count: int) -> Any:
        """A batch of noise in the network's own input format."""

    @abstractmethod
    def prepare(self, faces: Sequence[Face]) -> Any:
        """Faces of pictures to a batch in the network's own input format, by its own crop rule."""

    @abstractmethod
    def run(self, batch: Any) -> Sequence[Any]:
        """A batch to answers, as a user gets them."""

    @abstractmethod
    def female(self, answers: Sequence[Any]) -> np.ndarray:
        """P(female) of answers: float (N,)."""


class Variant(Subject):
    """One of our models on one engine, through `Classifier`."""

    def __init__(self, model: str, device: str, threads: int | None, batch: int) -> None:
        from gender_edge import Classifier

        self.model = model
        self.classifier = Classifier(model, device=device, threads=threads, batch_size=batch)

    def facts(self) -> dict[str, Any]:
        """What the model says of itself, and its recorded evaluation if it is a shipped one."""
        from gender_edge import zoo
        from gender_edge.backends import cuda

        spec, shipped = self.classifier.spec, self.model in zoo.names()
        path = zoo.entry(self.model).path if shipped else Path(self.model)
        provider = self.classifier.provider  # of ONNX Runtime "CUDA...", of TensorRT the GPU's name
        through_cuda = provider.startswith("CUDA")
        return {
            "engine": self.classifier.backend.split()[0] + (" cuda" if through_cuda else ""),
            "classifier": repr(self.classifier),
            "backend": self.classifier.backend,
            "provider": provider,
            "gpu": None if provider.startswith("CPU") else cuda.identify(),
            "precision": spec.precision,
            "input_size": spec.input_size,
            "parameters": spec.parameters,
            "macs": spec.macs,
            "bytes": path.stat().st_size,
            "recorded": _recorded(self.model) if shipped else None,
        }

    def blank(self, count: int) -> np.ndarray:
        """Noise: uint8 (N, S, S, 3)."""
        side = self.classifier.spec.input_size
        return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), np.uint8)

    def prepare(self, faces: Sequence[Face]) -> np.ndarray:
        """Crops: uint8 (N, S, S, 3)."""
        crop = self.classifier.crop
        return np.stack([crop(f.image, box=f.box, landmarks=f.landmarks) for f in faces])

    def run(self, batch: np.ndarray) -> Sequence[Any]:
        """Crops to predictions."""
        return self.classifier.predict(batch)

    def female(self, answers: Sequence[Any]) -> np.ndarray:
        """As predicted."""
        return np.array([p.female for p in answers])


def _recorded(name: str) -> dict[str, Any]:
    """Figures by set."""
    from gender_edge import zoo

    return {name: trimmed(figures) for name, figures in zoo.entry(name).evaluation["sets"].items()}


def trimmed(figures: dict[str, Any]) -> dict[str, Any]:
    """Of a set's figures those that a result carries on."""
    return {key: figures[key] for key in KEPT if key in figures}


def open_subject(description: dict[str, Any]) -> Subject:
    """The subject that `variant` or `peers.find` described."""
    kind, values = description["kind"], dict(description["open"])
    if kind == "variant":
        return Variant(**values)
    from benchmarks import peers

    return peers.open_peer(kind, **values)


def variant(name: str, device: str, threads: int | None, batch: int) -> dict[str, Any]:
    """The description of one of our models on one device."""
    values = {"model": name, "device": device, "threads": threads, "batch": batch}
    return {"name": name, "engine": device, "kind": "variant", "open": values}
