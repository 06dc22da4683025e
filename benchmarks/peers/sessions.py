"""A peer's ONNX file on an engine: as ONNX Runtime's own session, or one that behaves like it.

With the peers' networks on our fastest engine too, a table tells network from engine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gender_edge import host
from gender_edge.backends import installed


def engines() -> list[str]:
    """Engines that a peer's ONNX file is run on here, its users' first."""
    return ["onnxruntime", *(["openvino"] if installed.openvino() else [])]


def session(path: str, engine: str, threads: int | None) -> Any:
    """Something with `run(names, feeds)` and `get_inputs()`."""
    if engine == "openvino":
        return _OpenVino(path, threads)
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def version(engine: str) -> str:
    """The engine with its version, as our own backends name themselves."""
    return f"{engine} {host.version(engine)}"


class _OpenVino:
    """The part of ONNX Runtime's session that adapters use, on OpenVINO."""

    def __init__(self, path: str, threads: int | None) -> None:
        import openvino

        options = {"PERFORMANCE_HINT": "LATENCY"}
        if threads:
            options["INFERENCE_NUM_THREADS"] = str(threads)
        self._compiled = openvino.Core().compile_model(path, "CPU", options)

    def get_inputs(self) -> Sequence[Any]:
        """Inputs with their names."""
        return [_Input(port.any_name) for port in self._compiled.inputs]

    def run(self, _: Sequence[str] | None, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """All outputs, in the model's order."""
        found = self._compiled(list(feeds.values()))
        return [np.array(found[port]) for port in self._compiled.outputs]


class _Input:
    def __init__(self, name: str) -> None:
        self.name = name
