"""TensorRT engines: one engine, a pool of slots that run batches, each on a stream of its own."""

from __future__ import annotations

import collections
import contextlib
import hashlib
import logging
import queue
import weakref
from functools import partial
from pathlib import Path
from typing import Any, Optional

import numpy as np

from .. import gpu_arrays
from ..caching import cache_folder, write_whole
from ..engine_info import EngineInfo
from ..errors import BackendError, ImageError, ModelError
from . import cuda, tensorrt_api

logger = logging.getLogger("gender_edge")

DEFAULT_STREAMS = 2  # upload of one batch overlaps compute of the other
ALIGNMENT = 256  # bytes, of every tensor's address


class TensorRTBackend:
    """An engine on a GPU. See `Backend` for its members."""

    def __init__(self, path: Path, *, index: int = 0, streams: int = DEFAULT_STREAMS) -> None:
        """Open an engine file, and capture and run every batch size that is launched as a graph.

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
                for _ in range(streams):
                    self._all.append(Slot(contexts, _names(engine, api), self._device, self.info))
            except BaseException:
                _free(self._all)
                raise
            _keep(kept, contexts.compiled(), compiled)
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
                index = cuda.index_of(array.address) if array.shape[0] else self._device.index
                if index != self._device.index:
                    raise gpu_arrays.elsewhere(index, self._device.index)
                side = self.spec.input_size
                if len(array.shape) != 4 or array.shape[1:] != (side, side, 3):
                    raise ImageError(
                        f"crops on the GPU {array.shape}: expected uint8 (N, {side}, {side}, 3)"
                    )
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
    if compiled == before:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, compiled)
    except OSError as error:
        logger.info("%s: kernels are compiled at every start (%s)", path, error)


def buckets(largest: int) -> list[int]:
    """The batch sizes that are captured as graphs: powers of two, and the largest.

    A batch runs in the smallest that holds it; what is computed beyond it is thrown away.
    """
    return [1 << n for n in range((largest - 1).bit_length())] + [largest]


class Slot:
    """A stream with its buffers, and on them a lane for every bucket; one thread at a time."""

    def __init__(
        self,
        contexts: tensorrt_api.Contexts,
        names: tuple[str, str],
        device: cuda.Device,
        info: EngineInfo,
    ) -> None:
        self._device = device
        self._most, side = info.target.max_batch, info.spec.input_size
        self._stream = device.stream()
        self._host_in = device.pinned((self._most, side, side, 3), np.uint8)
        self._host_out = device.pinned((self._most, 2), np.float32)
        self._answers = self._host_out  # of resident crops, of which there may be more
        sizes = (self._host_in.nbytes, self._host_out.nbytes, contexts.scratch_size)
        self._memory: list[Any] = []
        self._lane = partial(_Lane, contexts, names, side, self._memory, self.stream)
        self._lanes: dict[int, _Lane] = {}
        self._resident: Optional[_Lane] = None  # its input's address changes with every call
        self._count = 0
        self._host_in[:] = 0
        try:
            self._memory += [device.allocate(max(1, size)) for size in sizes]
            for count in buckets(self._most):
                self._lanes[count] = self._lane(count)
                self._prepare(self._lanes[count])
            self._resident = self._lane(self._most, fixed=False)
            self._stream.synchronize()  # it is used on other streams
        except BaseException:
            self.close()
            raise

    @property
    def stream(self) -> int:
        """The stream's handle."""
        return int(self._stream.handle)

    def submit(self, batch: np.ndarray) -> None:
        """Stage a batch of at most the largest size, and start it; inside the device's context."""
        self._count = len(batch)
        self._host_in[: self._count] = batch
        lane = self._lanes[next(n for n in self._lanes if n >= self._count)]
        if lane.graph is None:
            self._enqueue(lane)
        else:
            lane.graph.launch(self._stream)

    def collect(self) -> np.ndarray:
        """Wait for what was submitted, and return its logits."""
        self._stream.synchronize()
        return self._host_out[: self._count].copy()

    def run_resident(self, array: gpu_arrays.GpuArray) -> np.ndarray:
        """Compute on the array's own stream; parts follow each other on it, and are waited for."""
        lane = self._resident
        assert lane is not None  # closed slots are never handed out
        total, row = array.shape[0], int(np.prod(array.shape[1:]))
        if len(self._answers) < total:
            self._answers = self._device.pinned((total, 2), np.float32)
        try:
            for start in range(0, total, self._most):
                count = min(self._most, total - start)
                lane.read_from(array.address + start * row, count)
                lane.execute(array.stream)
                out = self._answers[start : start + count]
                cuda.download_on(array.stream, out, int(self._memory[1]))
        finally:
            cuda.wait_for(array.stream)  # also after an error: the array's memory goes back
        return self._answers[:total].copy()

    def _enqueue(self, lane: _Lane) -> None:
        self._device.upload(self._memory[0], self._host_in[: lane.count], self._stream)
        lane.execute(self.stream)
        self._device.download(self._host_out[: lane.count], self._memory[1], self._stream)

    def _prepare(self, lane: _Lane) -> None:
        """Run a lane once, which TensorRT wants after a change of shape, then capture it."""
        self._enqueue(lane)
        self._stream.synchronize()
        try:
            with cuda.capture(self._stream) as captured:
                self._enqueue(lane)
            lane.graph = captured[0]
        except (BackendError, self._device.error) as error:
            logger.warning("batch %d runs without a CUDA graph: %s", lane.count, error)

    def close(self) -> None:
        """Free everything, inside the device's context; what a lost context refuses is gone."""
        lanes = [lane for lane in (*self._lanes.values(), self._resident) if lane is not None]
        free = [lane.close for lane in lanes] + [memory.free for memory in self._memory]
        for call in free:
            with contextlib.suppress(BackendError, self._device.error):
                call()
        # These free themselves when the last reference goes, which must be in this context too.
        del self._lanes, self._resident, self._memory, self._lane
        del self._stream, self._host_in, self._host_out, self._answers


class _Lane:
    """An execution context for one batch size, and the graph captured from it.

    A graph is bound to the state of its context, so each has one of its own; all of a slot compute
    in the same scratch memory, one after the other.
    """

    def __init__(
        self,
        contexts: tensorrt_api.Contexts,
        names: tuple[str, str],
        side: int,
        memory: list[Any],
        stream: int,
        count: int,
        *,
        fixed: bool = True,
    ) -> None:
        self._input, output = names
        pixels, logits, scratch = (int(part) for part in memory)
        self._api = contexts.api
        self._context = contexts.make(scratch, stream, fixed=fixed)
        self._context.set_tensor_address(output, logits)
        self._side = side
        self.graph: Optional[cuda.Graph] = None
        self.count = 0
        self.read_from(pixels, count)

    def read_from(self, address: int, count: int) -> None:
        """Set where the input lies and how many faces it has."""
        self._context.set_tensor_address(self._input, address)
        if count != self.count and not self._context.set_input_shape(
            self._input, (count, self._side, self._side, 3)
        ):
            raise BackendError(f"the engine refuses a batch of {count}: {self._api.reason()}")
        self.count = count

    def execute(self, stream: int) -> None:
        """Enqueue the network on a stream."""
        self._api.messages.clear()
        if not self._context.execute_async_v3(stream):
            raise BackendError(
                f"{self._api!r} could not enqueue the network: {self._api.reason()}; open the "
                "model again"
            )

    def close(self) -> None:
        """Free graph and context."""
        if self.graph is not None:
            self.graph.close()
        self.graph = self._context = None


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


def _check_version(path: Path, info: EngineInfo, api: tensorrt_api.TensorRT) -> None:
    if info.tensorrt != (api.name, api.version):
        raise BackendError(
            f"{path}: built by {' '.join(info.tensorrt)} for {info.place}, found {api!r}{_here()}; "
            f"an engine runs on the version that built it: {info.rebuild(path)}"
        )


def _here() -> str:
    try:
        gpu = cuda.identify()
    except BackendError:
        return ""
    return f" on {gpu['name']} ({gpu['compute_capability']})"


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
