"""TensorRT engines: one engine, a pool of slots that run batches, each on a stream of its own."""

from __future__ import annotations

import collections
import hashlib
import logging
import queue
import weakref
from pathlib import Path
from typing import Any, Optional

import numpy as np

from .. import gpu_arrays
from ..caching import cache_folder, made, write_whole
from ..engine_info import EngineInfo
from ..errors import BackendError, ImageError, ModelError
from . import cuda, tensorrt_api
from .tensorrt_slot import Slot

logger = logging.getLogger("gender_edge")

STREAMS = 2  # upload of one batch overlaps compute of the other
ALIGNMENT = 256  # bytes, of every tensor's address


class TensorRTBackend:
    """An engine on a GPU. See `Backend` for its members."""

    def __init__(self, path: Path) -> None:
        """Open an engine file, and capture and run every batch size that is launched as a graph.

        Args:
            path: the engine; `<engine>.json` lies beside it.

        Raises:
            ModelError: the file is missing, damaged, or not of this package.
            BackendError: no TensorRT, pycuda, driver or GPU, or another than it was built for.
        """
        self.info = EngineInfo.read(path)
        self.spec = self.info.spec
        plan = _read(path, self.info)
        api = tensorrt_api.load()
        self._device = cuda.open_device()  # before the runtime: 8.6 dies without a driver
        gpu = self._device
        if reason := self.info.misfit(api, gpu.name, gpu.capability):  # TensorRT may only warn
            raise BackendError(f"{path}: {reason}; {self.info.rebuild(path)}")
        self.name, self.provider = repr(api), self._device.name
        self.max_batch = self.info.target.max_batch
        self._slots: queue.LifoQueue[Optional[Slot]] = queue.LifoQueue()
        self._all: list[Slot] = []
        with self._device.current():
            runtime, engine = _deserialize(path, plan, api, self.info, self._device)
            kept = _compiled_path(self.info, self._device)
            compiled = kept.read_bytes() if api.is_rtx and kept.exists() else b""
            contexts = tensorrt_api.Contexts(api, engine, compiled)
            try:
                for _ in range(STREAMS):
                    self._all.append(Slot(contexts, _names(engine, api), self._device, self.info))
                _keep(kept, contexts.compiled(), compiled)
            except BaseException:
                _free(self._all)
                raise
        for slot in self._all:
            self._slots.put(slot)
        # Also when it is forgotten, in whichever thread, or the program ends.
        held = [contexts, engine, runtime]
        self._end = weakref.finalize(self, _close, self._device, self._slots, self._all, held)

    def run(self, batch: np.ndarray) -> np.ndarray:
        """uint8 (N, S, S, 3) to logits float32 (N, 2). Thread-safe.

        More than the engine's largest batch is split, and the next part is staged and uploaded
        while the one before is computed.
        """
        step = self.max_batch
        parts = [np.zeros((0, 2), np.float32)]
        waiting: collections.deque[Slot] = collections.deque()
        with self._device.current():
            try:
                for start in range(0, len(batch), step):
                    waiting.append(self._take(waiting, parts))
                    waiting[-1].submit(batch[start : start + step])
                while waiting:
                    parts.append(waiting[0].collect())
                    self._slots.put(waiting.popleft())
            finally:
                for slot in waiting:  # left only by an error
                    self._slots.put(slot)
        return np.concatenate(parts)

    def _take(self, waiting: collections.deque[Slot], parts: list[np.ndarray]) -> Slot:
        """A free slot; where there is none, the oldest of this call's own, once it is done.

        Nobody waits for others while holding a slot, so no two callers wait for each other.
        """
        if not waiting:
            return self._open_slot(self._slots.get())
        try:
            return self._open_slot(self._slots.get_nowait())
        except queue.Empty:
            parts.append(waiting[0].collect())
            return waiting.popleft()

    def _open_slot(self, slot: Optional[Slot]) -> Slot:
        if slot is None:
            self._slots.put(None)  # for the next who asks
            raise BackendError("this classifier was closed; open a new one")
        return slot

    def run_resident(self, batch: Any) -> np.ndarray:
        """Crops that lie on this GPU already, uint8 (N, S, S, 3), to logits float32 (N, 2).

        Read where they lie and on their owner's stream; see `gender_edge.gpu_arrays`.

        Raises:
            ImageError: of another shape or type, not contiguous, or on another GPU.
        """
        slot = self._open_slot(self._slots.get())
        try:
            with self._device.current():
                array = gpu_arrays.borrow(batch, slot.stream, self._device.index)
                side = self.spec.input_size
                if len(array.shape) != 4 or array.shape[1:] != (side, side, 3):
                    raise ImageError(
                        f"crops on the GPU {array.shape}: expected uint8 (N, {side}, {side}, 3)"
                    )
                index = cuda.index_of(array.address) if array.shape[0] else self._device.index
                if index != self._device.index:
                    raise gpu_arrays.elsewhere(index, self._device.index)
                if array.address % ALIGNMENT:
                    raise ImageError(
                        f"crops on the GPU start at an address that is no multiple of {ALIGNMENT}, "
                        "as TensorRT wants it; copy them to memory of their own"
                    )
                return slot.run_resident(array)
        finally:
            self._slots.put(slot)

    def close(self) -> None:
        """Wait for work under way, then free memory, contexts and the engine."""
        self._end()


def _close(
    device: cuda.Device,
    slots: queue.LifoQueue[Optional[Slot]],
    opened: list[Slot],
    held: list[Any],
) -> None:
    """Gather all slots, and free them, and then what they were made of."""
    try:
        for _ in opened:
            slots.get()
        with device.current():
            _free(opened)
            while held:
                held.pop(0)
    except BackendError as error:  # of a lost context, whose memory comes back with the process
        logger.warning("a TensorRT engine could not be freed: %s", error)
    finally:
        slots.put(None)  # whoever waits or comes later is told


def _free(opened: list[Slot]) -> None:
    while opened:
        opened.pop().close()


def _names(engine: Any, api: tensorrt_api.TensorRT) -> tuple[str, str]:
    """The names of input and output."""
    names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    names.sort(key=lambda name: engine.get_tensor_mode(name) != api.module.TensorIOMode.INPUT)
    return names[0], names[1]


def _compiled_path(info: EngineInfo, device: cuda.Device) -> Path:
    """Where RTX's kernels of an engine lie, for this GPU and driver."""
    parts = (info.engine_sha256, device.name, device.driver_version)
    key = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
    return cache_folder() / "compiled" / f"{key}.cache"


def _keep(path: Path, compiled: bytes, before: bytes) -> None:
    """Keep what was compiled for the next start; without it that takes longer, nothing else."""
    if compiled in (before, b""):
        return
    try:
        write_whole(made(path.parent) / path.name, compiled)
    except BackendError as error:
        logger.info("%s: kernels are compiled at every start (%s)", path, error)


def _read(path: Path, info: EngineInfo) -> bytes:
    try:
        plan = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    if hashlib.sha256(plan).hexdigest() != info.engine_sha256:
        raise ModelError(
            f"{path}: {len(plan)} bytes that are not the engine its .json describes; it is "
            f"truncated or was replaced: {info.rebuild(path)}"
        )
    return plan


def _deserialize(
    path: Path,
    plan: bytes,
    api: tensorrt_api.TensorRT,
    info: EngineInfo,
    device: cuda.Device,
) -> tuple[Any, Any]:
    runtime, engine = api.deserialize(plan)
    if engine is None:
        raise BackendError(
            f"{path}: built for {info.place}, found {device!r}; {api!r} says: {api.reason()}; "
            f"{info.rebuild(path)}"
        )
    return runtime, engine
