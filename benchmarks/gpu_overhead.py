"""What lies between a bare engine and an answer: alone, through `Classifier`, from host memory.

Rates in faces a second, on one engine at one batch size: the engine alone, enqueued in a loop and
launched as a CUDA graph (a small network is computed faster than Python enqueues it), `Classifier`
on crops that lie on the GPU, which enqueues, `Classifier` on crops in host memory, which launches
graphs, and the upload alone; each with several batches under way before anything is waited for. Run
by `gpu_check`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Optional

import numpy as np

from gender_edge import BackendError, Classifier
from gender_edge.backends import cuda, tensorrt_api

SECONDS = 1.0  # of each measurement
QUEUED = 50  # enqueued before waiting
PARTS = 8  # batches in one call, so that uploads have something to overlap with


class Resident:
    """Crops in the GPU's memory, as any library would offer them."""

    def __init__(self, device: cuda.Device, crops: np.ndarray) -> None:
        self.memory = device.allocate(crops.nbytes)
        device.driver.memcpy_htod(self.memory, crops)
        device.driver.Context.synchronize()  # of pageable memory it may return a little early
        self._shape = crops.shape

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "shape": self._shape,
            "typestr": "|u1",
            "data": (int(self.memory), True),
            "version": 3,
        }


def measure(engine: Path, batch: int) -> dict[str, Any]:
    """The rates, and what share of the possible each of ours reaches."""
    device = cuda.open_device()
    with Classifier(engine) as classifier:
        side = classifier.spec.input_size
        crops = np.random.default_rng(0).integers(0, 256, (batch, side, side, 3), np.uint8)
        with device.current():
            many = np.concatenate([crops] * PARTS)
            resident = Resident(device, many)
            enqueued, captured = _bare(engine, device, int(resident.memory), crops.shape)
            graph = captured or enqueued
            upload = batch * _upload(device, crops)
        try:
            within = len(many) * _rate(lambda: classifier.probabilities(resident))
            host = len(many) * _rate(lambda: classifier.probabilities(many))
            answers = len(many) * _rate(lambda: classifier.predict(many))
        finally:
            with device.current():
                resident.memory.free()
    return {
        "batch": batch,
        "enqueued_faces_per_s": batch * enqueued,
        "graph_faces_per_s": batch * graph,
        "captured": captured is not None,
        "resident_faces_per_s": within,
        "host_faces_per_s": host,
        "predictions_faces_per_s": answers,
        "upload_faces_per_s": upload,
        "resident_share": within / (batch * enqueued),
        "host_share": host / min(batch * graph, upload),
    }


def _rate(call: Callable[[], Any]) -> float:
    for _ in range(5):
        call()
    count, begin = 0, time.perf_counter()
    while (passed := time.perf_counter() - begin) < SECONDS:
        call()
        count += 1
    return count / passed


def _bare(
    engine: Path, device: cuda.Device, pixels: int, shape: tuple[int, ...]
) -> tuple[float, Optional[float]]:
    """Executions a second with nothing around them, on a context of its own: enqueued, and as a
    graph, if it can be captured.
    """
    api = tensorrt_api.load()
    runtime, opened = api.deserialize(engine.read_bytes())
    contexts = tensorrt_api.Contexts(api, opened)
    memory = [device.allocate(max(1, contexts.scratch_size)), device.allocate(8 * shape[0])]
    stream = device.stream()
    context = contexts.make(int(memory[0]), stream.handle)
    trt, names = api.module, [opened.get_tensor_name(i) for i in range(opened.num_io_tensors)]
    for name in names:
        if opened.get_tensor_mode(name) == trt.TensorIOMode.INPUT:
            context.set_tensor_address(name, pixels)
            context.set_input_shape(name, shape)
        else:
            context.set_tensor_address(name, int(memory[1]))

    enqueue = partial(_enqueue, api, context, stream)
    enqueued = _many(enqueue, stream)  # also what TensorRT wants before a capture
    launched: Optional[float] = None
    with contextlib.suppress(BackendError):  # `Classifier` goes on without a graph too
        with cuda.capture(stream) as captured:
            enqueue()
        (graph,) = captured
        launched = _many(partial(graph.launch, stream), stream)
        graph.close()
    # What was made of another goes before it.
    del enqueue, context, contexts, opened, runtime
    for part in memory:
        part.free()
    return enqueued, launched


def _enqueue(api: tensorrt_api.TensorRT, context: Any, stream: Any) -> None:
    if not context.execute_async_v3(stream.handle):
        raise BackendError(f"{api!r} could not enqueue the network: {api.reason()}")


def _many(call: Callable[[], Any], stream: Any) -> float:
    """Calls a second, several of them on the stream at once."""

    def some() -> None:
        for _ in range(QUEUED):
            call()
        stream.synchronize()

    return QUEUED * _rate(some)


def _upload(device: cuda.Device, crops: np.ndarray) -> float:
    staged, stream = device.pinned(crops.shape, np.uint8), device.stream()
    staged[:] = crops
    target = device.allocate(crops.nbytes)

    rate = _many(lambda: device.upload(target, staged, stream), stream)
    target.free()
    return rate
