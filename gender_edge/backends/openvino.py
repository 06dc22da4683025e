"""OpenVINO: on x86 and Arm CPUs often the faster engine, from the same ONNX files."""

from __future__ import annotations

import queue
from collections.abc import Collection
from typing import Any, Optional

import numpy as np

from ..errors import BackendError, ModelError
from ..spec import METADATA_KEY, ModelSpec

SMALL = 4 << 20  # bytes of a file
LARGEST_OWN = 256  # faces: a network for more at once would hold memory for all of them


def _read(core: Any, model: bytes, source: str) -> Any:
    try:
        return core.read_model(model)
    except RuntimeError as error:
        raise ModelError(
            f"{source}: OpenVINO cannot read it, it is damaged or not an ONNX model ({error}); "
            "fetch or export it again"
        ) from error


class OpenVINOBackend:
    """One network, compiled for batches of any size and again for sizes that are asked often.

    Compiled for one size it answers sooner (here by 3 to 15 %: OpenVINO then reads pictures as they
    lie, instead of transposing them and back). Large files gain little by that and would need their
    weights in memory once more: they are compiled for any size only. See `Backend` for the members.
    """

    def __init__(
        self,
        model: bytes,
        source: str,
        threads: Optional[int] = None,
        often: Collection[int] = (1,),
    ) -> None:
        """Open a model on the CPU.

        Args:
            model: content of an ONNX file.
            source: what to call it in errors.
            threads: None leaves it to OpenVINO (all cores).
            often: sizes of batches to compile for, as far as they are not beyond `LARGEST_OWN`.

        Raises:
            ModelError: not an ONNX file, damaged, or not a model of this package.
            BackendError: OpenVINO cannot be imported, or cannot compile the model.
        """
        try:
            import openvino
        except ImportError as error:
            raise BackendError(
                f"OpenVINO cannot be imported ({error}); pip install openvino, or use "
                "device='onnxruntime'"
            ) from error
        self._core = openvino.Core()
        self._options = {"PERFORMANCE_HINT": "LATENCY"}
        if threads is not None:
            self._options["INFERENCE_NUM_THREADS"] = str(threads)
        network = _read(self._core, model, source)
        self.spec = _spec(network, source)
        if self.spec.precision == "int8":
            # In bfloat16 the few layers between (luminance above all) were rounded in one size of
            # batch and not in another: other answers, for no more speed.
            self._options["INFERENCE_PRECISION_HINT"] = "f32"
        own = {n for n in often if n <= LARGEST_OWN} if len(model) <= SMALL else set()
        try:
            self._compiled: Optional[dict[Optional[int], _Compiled]] = {
                size: self._compile(network, size) for size in (None, *sorted(own))
            }
        except RuntimeError as error:
            raise BackendError(
                f"{source}: OpenVINO cannot compile it ({error}); use device='onnxruntime'"
            ) from error
        precision = self._compiled[None].precision
        self.provider = "CPU" if self.spec.precision == "int8" else f"CPU {precision}"
        self.name = f"openvino {openvino.__version__.split('-')[0]}"

    def run(self, batch: np.ndarray) -> np.ndarray:
        """uint8 (N, S, S, 3) to logits float32 (N, 2). Thread-safe: a request for each caller."""
        compiled = self._compiled
        if compiled is None:
            raise BackendError("this classifier was closed; open a new one")
        if not len(batch):
            return np.zeros((0, 2), np.float32)
        size = len(batch) if len(batch) in compiled else None
        try:
            return compiled[size].run(batch)
        except RuntimeError as error:
            raise BackendError(f"OpenVINO failed on {batch.shape}: {error}") from error

    def close(self) -> None:
        """Free the model, once the calls that run have their answers."""
        self._compiled = None

    def _compile(self, network: Any, size: Optional[int]) -> _Compiled:
        """For batches of one size, or of any."""
        if size is not None:
            network = network.clone()
            network.reshape([size, *list(network.inputs[0].get_partial_shape())[1:]])
        return _Compiled(self._core.compile_model(network, "CPU", self._options))


class _Compiled:
    """A compiled network and a pool of its requests."""

    def __init__(self, compiled: Any) -> None:
        self._compiled = compiled
        self._requests: queue.LifoQueue[Any] = queue.LifoQueue()
        self.precision = str(compiled.get_property("INFERENCE_PRECISION_HINT").to_string())

    def run(self, batch: np.ndarray) -> np.ndarray:
        try:
            request = self._requests.get_nowait()
        except queue.Empty:
            request = self._compiled.create_infer_request()
        logits = request.infer([batch], share_inputs=True)[0].copy()
        self._requests.put(request)
        return np.asarray(logits)


def _spec(network: Any, source: str) -> ModelSpec:
    place = ["framework", METADATA_KEY]
    text = network.get_rt_info(place).astype(str) if network.has_rt_info(place) else None
    if not network.inputs:
        return ModelSpec.of_model(text, "none", [], source)
    found = network.inputs[0]
    shape = [d.get_length() if d.is_static else "N" for d in found.get_partial_shape()]
    return ModelSpec.of_model(text, found.get_element_type().get_type_name(), shape, source)
