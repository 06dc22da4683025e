"""What runs one batch at a time on an engine: a stream with its buffers, and CUDA graphs."""

from __future__ import annotations

import bisect
import contextlib
import logging
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Optional

import numpy as np

from .. import gpu_arrays
from ..engine_info import EngineInfo
from ..errors import BackendError
from . import cuda, tensorrt_api

logger = logging.getLogger("gender_edge")


def buckets(largest: int) -> list[int]:
    """The batch sizes that are captured as graphs: powers of two, and the largest.

    A batch runs in the smallest that holds it; what is computed beyond it is thrown away.
    """
    return [1 << n for n in range((largest - 1).bit_length())] + [largest]


def parts(total: int, sizes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Where each part of so many faces starts, and how many it has: the largest sizes first.

    Args:
        sizes: in rising order, 1 among them.
    """
    start = 0
    while start < total:
        count = sizes[bisect.bisect_right(sizes, total - start) - 1]
        yield start, count
        start += count


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
        # RTX compiles kernels for every batch size that it meets; those of the lanes are there.
        rtx = contexts.api.is_rtx
        self._counts = buckets(self._most) if rtx else range(1, self._most + 1)
        self._count = 0
        self._host_in[:] = 0
        try:
            self._memory += [device.allocate(max(1, size)) for size in sizes]
            for count in buckets(self._most):
                self._lanes[count] = self._lane(count)
                self._prepare(self._lanes[count])
            self._resident = self._lane(self._most)
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
            for start, count in parts(total, self._counts):
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
    ) -> None:
        self._input, output = names
        pixels, logits, scratch = (int(part) for part in memory)
        self._api = contexts.api
        self._context = contexts.make(scratch, stream)
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
