"""How engines are run: slots, streams, graphs, errors, ends; on a GPU that is host memory."""

from __future__ import annotations

import gc
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import gpu_overhead
from gender_edge import BackendError, ImageError, doctor
from gender_edge.backends import cuda, tensorrt
from gender_edge.backends.tensorrt import ALIGNMENT, TensorRTBackend
from gender_edge.backends.tensorrt_slot import buckets, parts
from gender_edge.engine_info import EngineInfo, sidecar

from .fake_gpu import LARGEST, MODEL, Gpu


@pytest.fixture
def backend(engine: Path) -> Any:
    found = TensorRTBackend(engine)
    yield found
    found.close()


def faces(backend: TensorRTBackend, *shades: int) -> np.ndarray:
    side = backend.spec.input_size
    grey = np.array(shades, np.uint8)[:, None, None, None]
    return np.broadcast_to(grey, (len(shades), side, side, 3)).copy()


def answers(*shades: int) -> np.ndarray:
    return np.array([[s / 100, -s / 100] for s in shades], np.float32).reshape(-1, 2)


class Resident:
    """Faces where TensorRT wants them."""

    def __init__(self, batch: np.ndarray) -> None:
        self.block = np.empty(batch.nbytes + ALIGNMENT, np.uint8)
        self.place = -(-self.block.ctypes.data // ALIGNMENT) * ALIGNMENT
        begin = self.place - self.block.ctypes.data
        self.block[begin : begin + batch.nbytes] = batch.reshape(-1)
        self.shape = batch.shape

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {"shape": self.shape, "typestr": "|u1", "data": (self.place, True), "version": 3}


@pytest.mark.parametrize("count", [0, 1, 3, LARGEST, LARGEST + 1, 5 * LARGEST + 2])
def test_every_batch_is_answered_in_order(backend: TensorRTBackend, count: int) -> None:
    shades = [(7 * n) % 250 for n in range(count)]
    for _ in range(2):
        np.testing.assert_allclose(
            backend.run(faces(backend, *shades)), answers(*shades), atol=1e-5
        )
        others = [shade + 1 for shade in shades]
        found = backend.run_resident(Resident(faces(backend, *others)))
        np.testing.assert_allclose(found, answers(*others), atol=1e-5)


def test_many_threads_share_two_slots(backend: TensorRTBackend) -> None:
    batches = [[(n + k) % 250 for k in range(1 + n % 11)] for n in range(60)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda shades: backend.run(faces(backend, *shades)), batches))
    for logits, shades in zip(found, batches):
        np.testing.assert_allclose(logits, answers(*shades), atol=1e-5)


def test_batches_are_launched_as_graphs(gpu: Gpu, backend: TensorRTBackend) -> None:
    before = gpu.launched
    backend.run(faces(backend, *range(LARGEST + 1)))
    assert gpu.launched == before + 2


def test_without_graphs_it_goes_on_and_says_so(
    gpu: Gpu, engine: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gpu.fails["cuStreamBeginCapture_v2"] = 1
    backend = TensorRTBackend(engine)
    assert "runs without a CUDA graph: cuStreamBeginCapture_v2 gave CUDA_ERROR_ODD" in caplog.text
    np.testing.assert_allclose(backend.run(faces(backend, 5)), answers(5), atol=1e-5)
    backend.close()


def test_closing_waits_and_then_tells_everyone(gpu: Gpu, backend: TensorRTBackend) -> None:
    slots = [backend._slots.get() for _ in backend._all]
    outcomes: list[Any] = []

    def ask() -> None:
        try:
            outcomes.append(backend.run(faces(backend, 5)))
        except BackendError as error:
            outcomes.append(str(error))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    threads.append(threading.Thread(target=backend.close))
    for thread in threads:
        thread.start()
    assert gpu.memory
    for slot in slots:
        backend._slots.put(slot)
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert not gpu.memory and len(outcomes) == 3
    backend.close()
    with pytest.raises(BackendError, match="was closed"):
        backend.run(faces(backend, 5))
    with pytest.raises(BackendError, match="was closed"):
        backend.run_resident(Resident(faces(backend, 5)))


def test_what_is_forgotten_gives_its_memory_back(gpu: Gpu, engine: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: TensorRTBackend(engine) and None).result()
    gc.collect()
    assert not gpu.memory


@pytest.mark.parametrize("call", ["cuInit", "cuDeviceGet", "cuDevicePrimaryCtxRetain"])
def test_a_gpu_that_does_not_start(gpu: Gpu, engine: Path, call: str) -> None:
    gpu.fails[call] = 1
    with pytest.raises(BackendError, match=rf"GPU 0 does not start \({call}.*nvidia-smi"):
        TensorRTBackend(engine)


@pytest.mark.parametrize(
    ("call", "status", "message"),
    [
        ("cuMemAlloc", 2, "out of memory.*smaller batch"),
        ("profile", 1, "shares no profile.*has been chosen by another"),
        ("enqueue", 1, "could not enqueue.*scratch memory is missing"),
    ],
)
def test_what_fails_at_opening_says_why_and_leaves_nothing(
    gpu: Gpu, engine: Path, call: str, status: int, message: str
) -> None:
    gpu.fails[call] = status
    with pytest.raises(BackendError, match=message):
        TensorRTBackend(engine)
    assert not gpu.memory and not gpu.stack


def test_a_batch_that_the_engine_refuses(gpu: Gpu, engine: Path) -> None:
    text = sidecar(engine).read_text().replace(f'"max_batch": {LARGEST}', '"max_batch": 5')
    sidecar(engine).write_text(text)
    with pytest.raises(BackendError, match="refuses a batch of 5: no profile, or not within it"):
        TensorRTBackend(engine)


def test_out_of_memory_while_running(gpu: Gpu, backend: TensorRTBackend) -> None:
    gpu.fails["cuGraphLaunch"] = 2
    with pytest.raises(BackendError, match=r"CUDA_ERROR_OUT_OF_MEMORY; use a smaller batch"):
        backend.run(faces(backend, 5))
    del gpu.fails["cuGraphLaunch"]
    np.testing.assert_allclose(backend.run(faces(backend, 5)), answers(5), atol=1e-5)


@pytest.mark.parametrize("call", ["cuGraphLaunch", "cuStreamSynchronize"])
def test_a_lost_context_asks_for_a_new_process_in_every_thread(
    gpu: Gpu, engine: Path, call: str, caplog: pytest.LogCaptureFixture
) -> None:
    backend, left = TensorRTBackend(engine), []
    gpu.fails[call] = 700

    def ask() -> None:
        for _ in range(2):
            with pytest.raises(BackendError, match="start it again"):
                backend.run(faces(backend, 5))
        left.extend(gpu.stack)  # pycuda would abort the process at this thread's end

    def inside() -> None:
        with pytest.raises(BackendError, match="start it again"), backend._device.current():
            entered.set()
            assert lost.wait(20)
            gpu.check("cuMemAlloc")
        left.extend(gpu.stack)

    entered, lost = threading.Event(), threading.Event()
    with ThreadPoolExecutor(2) as pool:
        other = pool.submit(inside)
        assert entered.wait(20)
        pool.submit(ask).result()
        lost.set()
        other.result()
    assert left == []
    backend.close()
    assert "could not be freed" in caplog.text


def test_a_context_that_cannot_be_entered_is_forgotten(gpu: Gpu, engine: Path) -> None:
    """Else what lives in it would ask for it when it is freed, and end the process."""
    backend = TensorRTBackend(engine)
    gpu.fails["cuCtxPushCurrent"] = 700
    with pytest.raises(BackendError, match=r"its context is lost.*start it again"):
        backend.run(faces(backend, 5))
    assert not backend._device._context.valid
    backend.close()


@pytest.mark.parametrize("gpu", ["1.7.1"], indirect=True)
def test_rtx_compiles_once_for_all_starts(gpu: Gpu, engine: Path, tmp_path: Path) -> None:
    kernels = [f"kernel eager {count}".encode() for count in buckets(LARGEST)]
    TensorRTBackend(engine).close()
    assert sorted(gpu.compiled) == kernels
    backend = TensorRTBackend(engine)
    for count in range(1, 3 * LARGEST):  # on the GPU already: in parts that there are kernels for
        backend.run_resident(Resident(faces(backend, *range(count))))
    backend.close()
    assert len(gpu.compiled) == len(kernels)
    ((kept,),) = [list((tmp_path / "compiled").iterdir())]
    kept.write_bytes(b"damaged")
    TensorRTBackend(engine).close()
    assert len(gpu.compiled) == 2 * len(kernels)


@pytest.mark.parametrize("gpu", ["1.7.1"], indirect=True)
def test_kernels_that_cannot_be_kept_are_no_error(gpu: Gpu, engine: Path, tmp_path: Path) -> None:
    gpu.fails["serialize"] = 1
    backend = TensorRTBackend(engine)
    np.testing.assert_allclose(backend.run(faces(backend, 5)), answers(5), atol=1e-5)
    backend.close()
    assert not (tmp_path / "compiled").exists()


@pytest.mark.parametrize(
    ("total", "sizes", "found"),
    [
        (0, [1, 2], []),
        (7, [1, 2, 4], [(0, 4), (4, 2), (6, 1)]),
        (11, range(1, 5), [(0, 4), (4, 4), (8, 3)]),
    ],
)
def test_parts(total: int, sizes: list[int], found: list[tuple[int, int]]) -> None:
    assert list(parts(total, sizes)) == found


def test_crops_on_another_gpu(backend: TensorRTBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "index_of", lambda _: 1)
    with pytest.raises(ImageError, match="crops lie on GPU 1, the engine on GPU 0"):
        backend.run_resident(Resident(faces(backend, 5)))


def test_an_engine_of_another_version_says_how_it_was_built(engine: Path) -> None:
    info = EngineInfo.read(engine)
    command = re.escape(f"gender-edge build {MODEL} --output {engine} --max-batch {LARGEST}")
    sidecar(engine).write_text(sidecar(engine).read_text().replace(info.tensorrt[1], "9.9.9"))
    with pytest.raises(
        BackendError, match=rf"by tensorrt\w* 9\.9\.9 for .* on Fake GPU .*{command}$"
    ):
        TensorRTBackend(engine)


def test_doctor_names_gpus_and_engines(gpu: Gpu, engine: Path) -> None:
    engine.with_name("b.engine").write_bytes(b"")
    found = doctor.examine()
    assert found["gpus"][0].startswith("0: Fake GPU (compute capability ")
    fits, broken = found["cached engines"]
    assert fits == "a.engine: fits"
    assert "b.engine.json: missing" in broken


def test_libcuda_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(cuda.ctypes, "CDLL", refuse)
    cuda._library.cache_clear()
    with pytest.raises(BackendError, match="no NVIDIA driver"):
        cuda.identify()


def test_an_engine_of_another_gpu_is_refused(engine: Path) -> None:
    """Of the same compute capability too, where TensorRT would only warn."""
    info = EngineInfo.read(engine)
    replace(info, gpu="Other GPU").write(engine)
    with pytest.raises(
        BackendError, match=r"for Other GPU \(.*, found .* on Fake GPU \(.*; build it again"
    ):
        TensorRTBackend(engine)
    replace(info, gpu="Other GPU", target=replace(info.target, portable=True)).write(engine)
    TensorRTBackend(engine).close()


@pytest.mark.parametrize("graphs", [True, False])
def test_overhead_of_the_runtime(
    gpu: Gpu, engine: Path, monkeypatch: pytest.MonkeyPatch, graphs: bool
) -> None:
    """The rates are of host memory here; what counts is that each is measured, and nothing left."""
    monkeypatch.setattr(gpu_overhead, "SECONDS", 0.01)
    if not graphs:
        gpu.fails["cuStreamBeginCapture_v2"] = 1
    found = gpu_overhead.measure(engine, LARGEST)
    assert found.pop("captured") == graphs
    assert all(value > 0 for value in found.values())
    assert found["resident_share"] == pytest.approx(
        found["resident_faces_per_s"] / found["enqueued_faces_per_s"]
    )
    assert gpu.memory == {}


def test_kernels_are_kept_where_they_can_be(tmp_path: Path) -> None:
    for place in (tmp_path / "file" / "a.cache", tmp_path / "taken"):
        (tmp_path / "file").touch()
        (tmp_path / "taken").mkdir(exist_ok=True)
        tensorrt._keep(place, b"new", b"before")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "taken"]
    tensorrt._keep(tmp_path / "new" / "a.cache", b"new", b"before")
    assert (tmp_path / "new" / "a.cache").read_bytes() == b"new"
