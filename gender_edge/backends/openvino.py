"""OpenVINO: on x86 and Arm CPUs often the faster engine, from the same ONNX files."""

from __future__ import annotations

import queue
from typing import Any, Optional

import numpy as np

from ..errors import BackendError, ModelError
from ..spec import METADATA_KEY, ModelSpec


class OpenVINOBackend:
    """One compiled model and a pool of its requests. See `Backend` for its members."""

    def __init__(self, model: bytes, source: str, threads: Optional[int] = None) -> None:
        """Open a model on the CPU.

        Args:
            model: content of an ONNX file.
            source: what to call it in errors.
            threads: None leaves it to OpenVINO (all cores).

        Raises:
            ModelError: not an ONNX file, damaged, or not a model of this package.
            BackendError: OpenVINO cannot be imported.
        """
        try:
            import openvino
        except ImportError as error:
            raise BackendError(
                f"OpenVINO cannot be imported ({error}); pip install openvino, or use "
                "device='onnxruntime'"
            ) from error
        core = openvino.Core()
        options = {"PERFORMANCE_HINT": "LATENCY"}
        if threads is not None:
            options["INFERENCE_NUM_THREADS"] = str(threads)
        try:
            network = core.read_model(model)
            self._compiled: Optional[Any] = core.compile_model(network, "CPU", options)
        except RuntimeError as error:
            raise ModelError(
                f"{source}: OpenVINO cannot open it, it is damaged or not an ONNX model ({error}); "
                "fetch or export it again"
            ) from error
        self.spec = _spec(network, source)
        computed = self._compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        self.provider = f"CPU {computed}"
        self.name = f"openvino {openvino.__version__.split('-')[0]}"
        self._requests: queue.LifoQueue[Any] = queue.LifoQueue()

    def run(self, batch: np.ndarray) -> np.ndarray:
        """uint8 (N, S, S, 3) to logits float32 (N, 2). Thread-safe: a request for each caller."""
        requests, compiled = self._requests, self._compiled  # in the other order than `close`
        if compiled is None:
            raise BackendError("this classifier was closed; open a new one")
        if not len(batch):
            return np.zeros((0, 2), np.float32)
        try:
            request = requests.get_nowait()
        except queue.Empty:
            request = compiled.create_infer_request()
        try:
            logits = request.infer([batch], share_inputs=True)[0].copy()
        except RuntimeError as error:
            raise BackendError(f"OpenVINO failed on {batch.shape}: {error}") from error
        requests.put(request)
        return np.asarray(logits)

    def close(self) -> None:
        """Free the model, once the calls that run have their answers."""
        self._compiled = None
        self._requests = queue.LifoQueue()


def _spec(network: Any, source: str) -> ModelSpec:
    place = ["framework", METADATA_KEY]
    text = network.get_rt_info(place).astype(str) if network.has_rt_info(place) else None
    found = network.inputs[0]
    shape = [d.get_length() if d.is_static else "N" for d in found.get_partial_shape()]
    return ModelSpec.of_model(text, found.get_element_type().get_type_name(), shape, source)
