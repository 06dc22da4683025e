"""Engines on a GPU: run by `make gpu-check`, skipped with the reason where there is none."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from gender_edge import BackendError, Classifier, zoo
from gender_edge.backends import cuda
from gender_edge.backends.tensorrt import TensorRTBackend
from gender_edge.symmetric import symmetric

from .conftest import MAX_BATCH, crops, female

pytestmark = pytest.mark.gpu


def test_the_driver_names_the_gpu(device: cuda.Device) -> None:
    found = cuda.identify()
    assert found["name"] == device.name and found["compute_capability"] == device.capability
    assert found["driver_cuda"] == device.driver_version


@pytest.mark.parametrize("count", [1, 3, MAX_BATCH, MAX_BATCH + 1, 5 * MAX_BATCH])
def test_answers_like_onnx_runtime(
    opened: Classifier, shipped: str, count: int, tmp_path: Path
) -> None:
    batch, same = crops(opened, count), tmp_path / "same.onnx"
    same.write_bytes(symmetric(zoo.read(shipped)))  # what the engine was built from
    with Classifier(same, device="onnxruntime") as reference:
        expected = female(reference, batch)
    for _ in range(3):  # noise, of which a network is less sure than of faces
        difference = np.abs(female(opened, batch) - expected)
        assert difference.mean() < 0.02 and difference.max() < 0.15


def test_batches_do_not_mix(opened: Classifier) -> None:
    """What a smaller batch leaves in the buffers behind it must not show."""
    many, few = crops(opened, MAX_BATCH), crops(opened, 2, seed=1)
    before = female(opened, few)
    female(opened, many)
    np.testing.assert_allclose(female(opened, few), before, atol=1e-5)
    np.testing.assert_allclose(female(opened, many)[:2], female(opened, many[:2]), atol=0.05)


def test_many_threads(opened: Classifier) -> None:
    batches = [crops(opened, 1 + n % MAX_BATCH, seed=n) for n in range(24)]
    alone = [female(opened, b) for b in batches]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda b: female(opened, b), batches * 4))
    for found, expected in zip(together, alone * 4):
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_work_is_captured_as_graphs(opened: Classifier) -> None:
    opened.predict(crops(opened, 4))
    backend = opened._backend
    assert isinstance(backend, TensorRTBackend)
    graphs = [lane.graph for slot in backend._all for lane in slot._lanes.values()]
    assert graphs and None not in graphs


def test_nothing_leaks(engine: Path, device: cuda.Device) -> None:
    def free() -> int:
        with device.current():
            return device.free_memory()

    def use(times: int) -> None:
        for _ in range(times):
            with Classifier(engine) as classifier:
                classifier.predict(crops(classifier, 3))

    use(5)  # the driver's pools of modules and graphs grow to their size
    before = free()
    use(10)
    assert before - free() < 8 << 20


def test_closed(engine: Path) -> None:
    with Classifier(engine) as classifier:
        batch = crops(classifier, 1)
    with pytest.raises(BackendError, match="closed"):
        classifier.predict(batch)
    classifier.close()


def test_says_what_it_runs_on(opened: Classifier, device: cuda.Device) -> None:
    assert device.name in repr(opened) and "tensorrt" in repr(opened)


def test_lives_beside_torch(opened: Classifier) -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("this torch has no CUDA")
    batch = crops(opened, 4)
    before = female(opened, batch)
    product = torch.ones(64, 64, device="cuda") @ torch.ones(64, 64, device="cuda")
    np.testing.assert_allclose(female(opened, batch), before, atol=1e-5)
    assert float(product.sum()) == 64**3
