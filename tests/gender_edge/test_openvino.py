"""OpenVINO answers like ONNX Runtime, from the same files."""

from __future__ import annotations

import importlib
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gender_edge import BackendError, Classifier, ModelError, zoo
from gender_edge.backends import installed
from gender_edge.backends.openvino import OpenVINOBackend

pytest.importorskip("openvino", reason="OpenVINO is an extra: pip install 'gender_edge[openvino]'")


def crops(classifier: Classifier, count: int) -> np.ndarray:
    """Smooth random colours: real faces are tests/test_models.py's."""
    side = classifier.spec.input_size
    few = np.random.default_rng(count).integers(0, 256, (count, 5, 5, 3))
    index = np.linspace(0, 4, side).round().astype(int)
    return few[:, index][:, :, index].astype(np.uint8)


def test_same_answers(shipped: str) -> None:
    with (
        Classifier(shipped, device="openvino") as found,
        Classifier(shipped, device="onnxruntime") as expected,
    ):
        assert found.spec == expected.spec
        for count in (1, 7, 70):
            batch = crops(found, count)
            difference = found.probabilities(batch) - expected.probabilities(batch)
            assert np.abs(difference).max() < 0.1  # bfloat16 or other INT8 rounding
        assert np.abs(difference).mean() < 0.02  # of the 70
        assert found.probabilities(batch[:0]).shape == (0, 2)


def test_it_is_taken_on_a_cpu_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gender_edge.engines.usable", lambda: False)
    for device in ("auto", "cpu"):
        with Classifier(device=device) as classifier:
            assert "openvino 20" in repr(classifier) and "CPU" in repr(classifier)
    monkeypatch.setattr(installed, "openvino", lambda: False)
    with Classifier(device="cpu") as classifier:
        assert "onnxruntime" in repr(classifier)


def test_many_threads() -> None:
    with Classifier(device="openvino", threads=1) as classifier:
        batches = [crops(classifier, 1 + n) for n in range(12)]
        alone = [classifier.probabilities(b) for b in batches]
        with ThreadPoolExecutor(6) as pool:
            together = list(pool.map(classifier.probabilities, batches * 3))
    for found, expected in zip(together, alone * 3):
        np.testing.assert_allclose(found, expected, atol=1e-5)
    with pytest.raises(BackendError, match="closed"):
        classifier.probabilities(batches[0])


def test_many_threads_compile_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first full batches come together: one compiles, the others wait for it."""
    compiled: list[Any] = []
    compile_one = OpenVINOBackend._compile

    def counting(backend: OpenVINOBackend, network: Any, size: Any) -> Any:
        compiled.append(size)
        return compile_one(backend, network, size)

    monkeypatch.setattr(OpenVINOBackend, "_compile", counting)
    with Classifier("nano_gray_int8", device="openvino", batch_size=8) as classifier:
        batch = crops(classifier, 8)
        with ThreadPoolExecutor(6) as pool:
            found = list(pool.map(classifier.probabilities, [batch] * 12))
    assert sorted(compiled, key=str) == [1, 8, None]
    for own in found[1:]:
        np.testing.assert_array_equal(own, found[0])


def test_closing_meanwhile_keeps_nothing() -> None:
    """A call that runs has its answer, and with it goes the last that holds the model."""
    backend = OpenVINOBackend(zoo.read(zoo.default()), "default")
    batch = crops(Classifier(), 1)
    expected = backend.run(batch)
    assert backend._compiled is not None
    compiled = backend._compiled[1]
    request = compiled._requests.get_nowait()

    class Closing:
        def infer(self, *arguments: Any, **options: Any) -> Any:
            backend.close()
            return request.infer(*arguments, **options)

    compiled._requests.put(Closing())
    held = weakref.ref(compiled)
    del compiled
    np.testing.assert_array_equal(backend.run(batch), expected)
    assert held() is None


def test_sizes_asked_often_have_a_network_of_their_own() -> None:
    """Answers depend neither on the size of a batch nor on what was asked before."""
    with Classifier("nano_gray_int8", device="openvino", batch_size=8) as classifier:
        backend = classifier._backend
        assert isinstance(backend, OpenVINOBackend) and backend._compiled is not None
        assert set(backend._compiled) == {None, 1, 8}  # before anything is asked
        batch = crops(classifier, 8)
        first, apart = classifier.probabilities(batch), classifier.probabilities(batch[:5])
        np.testing.assert_array_equal(classifier.probabilities(batch), first)
        np.testing.assert_allclose(apart, first[:5], atol=1e-5)
    with Classifier("vgg16_int8", device="openvino") as large:
        assert isinstance(large._backend, OpenVINOBackend)
        assert set(large._backend._compiled or ()) == {None}


def test_a_folder_of_that_name_is_no_openvino(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert installed.openvino()
    (tmp_path / "openvino").mkdir()
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "openvino", raising=False)
    importlib.invalidate_caches()
    assert not installed.openvino()


def test_what_cannot_be_compiled_is_no_fault_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(self: OpenVINOBackend, network: object, size: object) -> None:
        raise RuntimeError("no memory left")

    monkeypatch.setattr(OpenVINOBackend, "_compile", fails)
    with pytest.raises(BackendError, match=r"cannot compile it .no memory left.*onnxruntime"):
        Classifier(device="openvino")


def test_model_files_that_are_no_models(tmp_path: Path) -> None:
    good = zoo.entry(zoo.default()).path.read_bytes()
    for content in (b"", good[: len(good) // 2], b"hello"):
        path = tmp_path / "bad.onnx"
        path.write_bytes(content)
        with pytest.raises(ModelError, match="damaged"):
            Classifier(path, device="openvino")
    onnx = pytest.importorskip("onnx")
    model = onnx.load_from_string(good)
    del model.metadata_props[:]
    onnx.save(model, path)
    with pytest.raises(ModelError, match="not one of gender_edge"):
        Classifier(path, device="openvino")
