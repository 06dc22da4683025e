"""TensorRT engines: one engine, a pool of execution contexts, each with a stream of its own."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import queue
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

import numpy as np

from ..engines import EngineInfo
from ..errors import BackendError, ModelError
from . import cuda, tensorrt_api

logger = logging.getLogger("gender_edge")

DEFAULT_STREAMS = 2  # upload of one batch overlaps compute of the other


class TensorRTBackend:
    """An engine on a GPU. See `Backend` for its members."""

    def __init__(self, path: Path, *, index: int = 0, streams: int = DEFAULT_STREAMS) -> None:
        """Open an engine file.

        Args:
            path: the engine; `<engine>.json` lies beside it.
            index: which GPU.
            streams: how many batches may be under way at once.

        Raises:
            ModelError: the file is missing, damaged, or not of this package.
            BackendError: no TensorRT, pycuda, driver or GPU, or another than it was built for.
        """
        self.info = EngineInfo.read(path)
        self.spec = self.info.spec
        plan = _read(path, self.info)
        api = tensorrt_api.load()
        _check_version(path, self.info, api)
        self._device = cuda.open_device(index)  # before the runtime: 8.6 dies without a driver
        self.name, self.provider = repr(api), self._device.name
        self.max_batch = self.info.target.max_batch
        self._slots: queue.LifoQueue[_Slot] = queue.LifoQueue()
        self._all: list[_Slot] = []
        with self._device.current():
            self._runtime, self._engine = _deserialize(path, plan, api, self.info, self._device)
            try:
                for _ in range(streams):
                    slot = _Slot(api, self._engine, self._device, self.info)
                    self._all.append(slot)
                    self._slots.put(slot)
            except BaseException:
                self._free()
                raise

    def run(self, batch: np.ndarray) -> np.ndarray:
        """uint8 (N, S, S, 3) to logits float32 (N, 2); larger batches are split. Thread-safe."""
        if len(batch) <= self.max_batch:
            with self._slot() as slot:
                return slot.run(batch)
        step = self.max_batch
        return np.concatenate([self.run(batch[i : i + step]) for i in range(0, len(batch), step)])

    @contextlib.contextmanager
    def _slot(self) -> Iterator[_Slot]:
        if not self._all:
            raise BackendError("this classifier was closed; open a new one")
        slot = self._slots.get()
        try:
            with self._device.current():
                yield slot
        finally:
            self._slots.put(slot)

    def close(self) -> None:
        """Wait for work under way, then free memory, contexts and the engine."""
        if self._all:
            for _ in self._all:
                self._slots.get()
            with self._device.current():
                self._free()

    def _free(self) -> None:
        for slot in self._all:
            slot.close()
        self._all = []
        self._engine = self._runtime = None


class _Slot:
    """An execution context with its stream, buffers and graphs; used by one thread at a time."""

    def __init__(self, api: Any, engine: Any, device: cuda.Device, info: EngineInfo) -> None:
        trt = api.module
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        inputs = [n for n in names if engine.get_tensor_mode(n) == trt.TensorIOMode.INPUT]
        self._input = inputs[0]
        self._output = next(n for n in names if n not in inputs)
        self._device, self._side = device, info.spec.input_size
        most = info.target.max_batch
        self._context = engine.create_execution_context()
        if self._context is None:
            raise BackendError(f"{api!r} gives no execution context: {api.reason()}")
        self._stream = device.stream()
        self._host_in = device.pinned((most, self._side, self._side, 3), np.uint8)
        self._host_out = device.pinned((most, 2), np.float32)
        self._memory = [device.allocate(self._host_in.nbytes)]
        self._memory.append(device.allocate(self._host_out.nbytes))
        self._context.set_tensor_address(self._input, int(self._memory[0]))
        self._context.set_tensor_address(self._output, int(self._memory[1]))
        self._graphs: dict[int, Optional[cuda.Graph]] = {}

    def run(self, batch: np.ndarray) -> np.ndarray:
        """Stage, upload, compute, download and wait; inside the device's context."""
        count = len(batch)
        self._host_in[:count] = batch
        graph = self._graph(count)
        if graph is None:
            self._enqueue(count)
        else:
            graph.launch(self._stream)
        self._stream.synchronize()
        return self._host_out[:count].copy()

    def _enqueue(self, count: int) -> None:
        shape = (count, self._side, self._side, 3)
        if not self._context.set_input_shape(self._input, shape):
            raise BackendError(f"the engine refuses a batch of {count}; build it with a larger one")
        self._device.upload(self._memory[0], self._host_in[:count], self._stream)
        if not self._context.execute_async_v3(self._stream.handle):
            raise BackendError("TensorRT could not enqueue the network; open the model again")
        self._device.download(self._host_out[:count], self._memory[1], self._stream)

    def _graph(self, count: int) -> Optional[cuda.Graph]:
        """The captured work of this batch size; None, said once, where it cannot be captured."""
        if count not in self._graphs:
            self._enqueue(count)  # TensorRT wants one plain run after a change of shape
            self._stream.synchronize()
            try:
                with cuda.capture(self._stream) as captured:
                    self._enqueue(count)
                self._graphs[count] = captured[0]
            except cuda.CaptureError as error:
                logger.warning("batch %d runs without a CUDA graph: %s", count, error)
                self._graphs[count] = None
        return self._graphs[count]

    def close(self) -> None:
        """Free everything; inside the device's context."""
        for graph in self._graphs.values():
            if graph is not None:
                graph.close()
        self._graphs = {}
        self._context = None
        for memory in self._memory:
            memory.free()
        self._memory = []


def _read(path: Path, info: EngineInfo) -> bytes:
    try:
        plan = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    if hashlib.sha256(plan).hexdigest() != info.engine_sha256:
        raise ModelError(
            f"{path}: {len(plan)} bytes that are not the engine its .json describes; it is "
            f"truncated or was replaced: {_rebuild(path, info)}"
        )
    return plan


def _check_version(path: Path, info: EngineInfo, api: tensorrt_api.TensorRT) -> None:
    if info.tensorrt != (api.name, api.version):
        raise BackendError(
            f"{path}: built by {' '.join(info.tensorrt)}, found {api!r}; an engine runs on the "
            f"version that built it: {_rebuild(path, info)}"
        )


def _deserialize(
    path: Path,
    plan: bytes,
    api: tensorrt_api.TensorRT,
    info: EngineInfo,
    device: cuda.Device,
) -> tuple[Any, Any]:
    runtime, engine = api.deserialize(plan)
    if engine is None:
        built = (
            f"{info.gpu} ({info.capability})" if info.gpu else ", ".join(info.target.capabilities)
        )
        raise BackendError(
            f"{path}: built for {built}, found {device!r}; {api!r} says: {api.reason()}; "
            f"{_rebuild(path, info)}"
        )
    return runtime, engine


def _rebuild(path: Path, info: EngineInfo) -> str:
    return f"build it again here: gender-edge build {info.spec.name} --output {path}"
