"""Peers found by a harness that lies beside their files: `run_peers.py` in the folder named by
`--peers-dir`, with a function `peers(options)` that gives adapters.

An adapter has name, engine, size, `load(threads)`, `prep(faces)`, `dummy(n)`, `infer(x)` to
P(male), and `nbytes()`; a face is a dict of im, box (4,) and lm (5, 2).
"""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from benchmarks.subjects import Face, Subject
from gender_edge.errors import DataError

from . import cost, sessions

HARNESS = "run_peers.py"
KIND = "harness"


def describe(folder: Path, threads: int | None) -> list[dict[str, Any]]:
    """The descriptions of all its peers; names without their versions and remarks.

    Raises:
        DataError: there is no harness in the folder, or it does not work.
    """
    adapters = _adapters(folder)
    short = [_short(adapter.name) for adapter in adapters]
    return [
        {
            "name": name if short.count(name) == 1 else adapter.name,
            "engine": engine,
            "kind": KIND,
            "macs": _macs(adapter),
            "open": {
                "folder": str(folder),
                "name": adapter.name,
                "engine": engine,
                "threads": threads,
            },
        }
        for adapter, name in zip(adapters, short)
        for engine in (sessions.engines() if _onnx(adapter) else [adapter.engine])
    ]


def _onnx(adapter: Any) -> bool:
    """Whether it runs one ONNX file on ONNX Runtime, which other engines take just as well."""
    files = [str(file) for file in adapter.files]
    return adapter.engine == "onnxruntime" and bool(files) and files[0].endswith(".onnx")


def _macs(adapter: Any) -> int | None:
    """Of a network in one of the two formats that can be read; what a peer's files hold is its own
    affair, so that one that cannot be read is merely not counted.
    """
    found = [Path(file) for file in adapter.files if str(file).endswith((".onnx", ".xml"))]
    try:
        return cost.macs(found[0]) if len(found) == 1 else None
    except RuntimeError:
        return None


class HarnessPeer(Subject):
    """One adapter of the harness."""

    def __init__(self, folder: str, name: str, engine: str, threads: int | None) -> None:
        self.adapter = next(a for a in _adapters(Path(folder)) if a.name == name)
        self.engine = engine
        if engine == self.adapter.engine:
            self.adapter.load(threads or 0)
        else:
            self.adapter.s = sessions.session(str(self.adapter.files[0]), engine, threads)
            self.adapter.i = self.adapter.s.get_inputs()[0].name

    def facts(self) -> dict[str, Any]:
        """As the harness tells them."""
        return {
            "engine": self.engine,
            "backend": sessions.version(self.engine),
            "version": self.adapter.name,
            "precision": "int8" if "INT8" in self.adapter.name else "fp32",
            "input_size": self.adapter.size,
            "bytes": self.adapter.nbytes(),
        }

    def blank(self, count: int) -> Any:
        """Noise in the peer's own format."""
        return self.adapter.dummy(count)

    def prepare(self, faces: Sequence[Face]) -> Any:
        """The peer's own crops."""
        return self.adapter.prep([_as_dict(face) for face in faces])

    def run(self, batch: Any) -> Any:
        """P(male), float (N,)."""
        return self.adapter.infer(batch)

    def female(self, answers: Sequence[Any]) -> np.ndarray:
        """One less P(male)."""
        return 1 - np.asarray(answers, float)


def _as_dict(face: Face) -> dict[str, np.ndarray]:
    height, width = face.image.shape[:2]
    whole = (0.12 * width, 0.08 * height, 0.76 * width, 0.88 * height)
    box = np.array(face.box or whole, np.float32)
    landmarks = face.landmarks
    if landmarks is None:  # about where they are in a box
        upright = np.array([[0.34, 0.46], [0.66, 0.46], [0.5, 0.64], [0.37, 0.82], [0.63, 0.82]])
        landmarks = upright * box[2:] + box[:2]
    return {"im": face.image, "box": box, "lm": np.asarray(landmarks, np.float32)}


def _short(name: str) -> str:
    words = name.split(" (")[0].split()[0]
    return words.split("-2.0")[0]


def _adapters(folder: Path) -> list[Any]:
    try:
        module = _module(folder)
        return list(module.peers(argparse.Namespace(custom=[], peers=None, no_calib=False)))
    except DataError:
        raise
    except Exception as error:  # a harness is anybody's code
        raise DataError(f"{folder / HARNESS}: {type(error).__name__}: {error}") from error


@lru_cache(maxsize=1)
def _module(folder: Path) -> ModuleType:
    path = folder / HARNESS
    spec = importlib.util.spec_from_file_location("peers_harness", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise DataError(f"{folder}: has no {HARNESS}; --peers-dir wants the folder of a harness")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
