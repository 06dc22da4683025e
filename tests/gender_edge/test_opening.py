"""Which engine and which file are opened, and what is said of what cannot be."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from gender_edge import ArgumentError, BackendError, Classifier, ModelError, engines, zoo
from gender_edge.backends import installed, onnx
from gender_edge.opening import engine_of
from gender_edge.spec import ModelSpec

from .fake_gpu import MODEL, Gpu


def test_cuda_is_refused_without_it() -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    with pytest.raises(BackendError, match="onnxruntime-gpu"):
        Classifier(device="cuda")
    with pytest.raises(ArgumentError, match="expected one of auto, cpu, onnxruntime"):
        Classifier(device="tpu")


def test_the_cpu_is_not_taken_in_silence(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where CUDA's library lies beside an ONNX Runtime that cannot use it, as the GPU's package
    leaves it behind when the CPU's is installed over it.
    """
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    monkeypatch.setattr("gender_edge.engines.usable", lambda: False)
    monkeypatch.setattr("gender_edge.backends.installed.onnxruntime_cuda", lambda: True)
    monkeypatch.setattr("gender_edge.backends.cuda.count", lambda: 1)
    with Classifier() as classifier:
        assert "CPUExecutionProvider" in repr(classifier)
        assert classifier.name == zoo.default()  # the CPU computes it, in INT8
    assert "the CPU is used: this ONNX Runtime has " in caplog.text
    assert "pip install onnxruntime-gpu" in caplog.text


def test_cuda_without_a_gpu_does_not_keep_openvino_out(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setattr("gender_edge.engines.usable", lambda: False)
    monkeypatch.setattr("gender_edge.backends.installed.onnxruntime_cuda", lambda: True)
    for gpus, expected in ((0, "openvino"), (1, "auto")):
        monkeypatch.setattr("gender_edge.backends.cuda.count", lambda found=gpus: found)
        assert engine_of(zoo.default(), "auto") == expected


def test_cuda_gets_fp32_where_nothing_was_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime has no INT8 convolutions there. Which file is opened is seen before CUDA is."""
    opened = []

    class OpenedError(Exception):
        pass

    def opens(content: bytes, source: str, *options: object) -> None:
        opened.append(source)
        raise OpenedError

    monkeypatch.setattr("gender_edge.backends.onnx.providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr("gender_edge.backends.onnx.OnnxBackend", opens)
    for gpus in (1, 0):
        monkeypatch.setattr("gender_edge.backends.cuda.count", lambda found=gpus: found)
        for model in (None, zoo.default()):
            with pytest.raises(OpenedError):
                Classifier(model, device="cuda")
    assert opened == [zoo.default("fp32"), *[zoo.default()] * 3]


def test_slow_int8_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import onnxruntime

    name = next(n for n in zoo.names() if n.endswith("_int8"))
    Classifier(name, device="onnxruntime")
    assert not caplog.text
    monkeypatch.setattr(onnxruntime, "__version__", "1.20.1")
    Classifier(name, device="onnxruntime")
    assert "1.21 or newer" in caplog.text
    caplog.clear()
    with Classifier(device="onnxruntime") as classifier:
        assert classifier.name == zoo.default("fp32") != zoo.default()
        assert "precision='fp32'" in repr(classifier)
    assert not caplog.text


def test_model_files_that_are_no_models(tmp_path: Path, portrait_path: Path) -> None:
    good = zoo.entry(zoo.default()).path.read_bytes()
    for name, content in (
        ("empty.onnx", b""),
        ("cut.onnx", good[: len(good) // 2]),
        ("text.onnx", b"hello"),
        ("picture.onnx", portrait_path.read_bytes()),
    ):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(ModelError, match="damaged"):
            Classifier(path)
    with pytest.raises(ModelError, match="no such model file"):
        Classifier(tmp_path / "none.onnx")
    with pytest.raises(ModelError, match="no shipped model 'vgg99'"):
        Classifier("vgg99")
    with pytest.raises(ModelError, match="cannot be read"):
        Classifier("a\0/b.onnx")


def test_model_of_another_task(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load(zoo.entry(zoo.default()).path)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "foreign.onnx")
    with pytest.raises(ModelError, match="not one of gender_edge"):
        Classifier(tmp_path / "foreign.onnx")


@pytest.mark.parametrize("device", ["onnxruntime", "openvino"])
def test_model_without_an_input(tmp_path: Path, device: str) -> None:
    pytest.importorskip(device)
    onnx_format = pytest.importorskip("onnx")
    helper, numbers = onnx_format.helper, onnx_format.TensorProto.FLOAT
    fixed = helper.make_tensor("fixed", numbers, [1], [1.0])
    node = helper.make_node("Constant", [], ["out"], value=fixed)
    out = helper.make_tensor_value_info("out", numbers, [1])
    graph = helper.make_graph([node], "constant", [], [out])
    opsets = [helper.make_opsetid("", 17)]
    (tmp_path / "a.onnx").write_bytes(
        helper.make_model(graph, ir_version=8, opset_imports=opsets).SerializeToString()
    )
    with pytest.raises(ModelError, match="not one of gender_edge"):
        Classifier(tmp_path / "a.onnx", device=device)


def test_checksum_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = zoo.default()
    shutil.copytree(zoo.folder() / name, tmp_path / name)
    shutil.copy(zoo.folder() / zoo.REGISTRY, tmp_path)
    monkeypatch.setattr(zoo, "folder", lambda: tmp_path)
    assert Classifier(name).name == name
    with (tmp_path / name / "model.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(ModelError, match="sha256"):
        Classifier(name)


def test_too_little_memory_is_not_a_damaged_model() -> None:
    """On a small device the file is whole: fetching it again, as for a damaged one, is no help."""
    code = """
import pathlib, resource
import gender_edge.backends.onnx as onnx
from gender_edge import zoo
model = (zoo.folder() / "vgg16_int8" / "model.onnx").read_bytes()
used = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**20, used + 2**20))
try:
    onnx.open_session(model, "vgg16_int8", threads=1)
except onnx.BackendError as error:
    print(error)
"""
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert "vgg16_int8: ONNX Runtime gets too little memory" in run.stdout, run.stderr


@pytest.mark.parametrize(
    ("error", "expected"),
    [  # as ONNX Runtime 1.32 says it, where ever less memory and fewer threads were left
        (MemoryError("std::bad_alloc"), BackendError),
        (Exception("1 : FAIL : Exception during loading: std::bad_alloc"), BackendError),
        (Exception("AllocateRawInternal Failed to allocate memory for buffer"), BackendError),
        (RuntimeError("pthread_create failed, error code: 11"), BackendError),
        (RuntimeError("it fell over"), ModelError),
        (Exception("7 : INVALID_PROTOBUF : Protobuf parsing failed"), ModelError),
    ],
)
def test_what_keeps_a_session_from_opening(
    error: Exception, expected: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(onnx.onnxruntime, "InferenceSession", refuse)
    with pytest.raises(expected, match="a: ONNX Runtime"):
        onnx.open_session(b"", "a")


def test_a_cached_engine_is_taken(engine: Path) -> None:
    for options in ({}, {"device": "tensorrt"}, {"build": True}):
        with Classifier(MODEL, **options) as classifier:  # type: ignore[arg-type]
            assert "tensorrt" in repr(classifier) and "Fake GPU" in repr(classifier)


def test_an_engine_of_another_precision_is_opened_by_its_path_alone(
    engine: Path, spec: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = engine.with_name(f"{engine.name}.json")
    content = json.loads(note.read_text())
    content["target"]["precision"] = "fp16"
    note.write_text(json.dumps(content))
    with pytest.raises(engines.NoEngineError):
        engines.find(MODEL)
    monkeypatch.setattr(engines, "spec_of", lambda *_: replace(spec, precision="fp16"))
    assert engines.find(MODEL) == engine, "of a model that is in FP16 itself it is the right one"


def test_without_an_engine_auto_goes_on_and_says_how_to_build_one(
    gpu: Gpu, caplog: pytest.LogCaptureFixture
) -> None:
    with Classifier(MODEL) as classifier:
        assert "tensorrt" not in classifier.backend
    assert f"`gender-edge build {MODEL}`" in caplog.text
    with pytest.raises(engines.NoEngineError, match=f"`gender-edge build {MODEL}`"):
        Classifier(MODEL, device="tensorrt")


def test_a_gpu_that_stays_unused_is_named(
    gpu: Gpu, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(engines, "obstacle", lambda: "pycuda is not installed")
    monkeypatch.setattr(installed, "onnxruntime_cuda", lambda: False)
    Classifier(MODEL, device="cpu").close()
    assert not caplog.text
    Classifier(MODEL).close()
    assert "Fake GPU is not used: pycuda is not installed" in caplog.text


def test_options_that_contradict_each_other(engine: Path) -> None:
    with pytest.raises(ArgumentError, match="a TensorRT engine, which device='cpu' does not open"):
        Classifier(engine, device="cpu")
    with pytest.raises(ArgumentError, match="build=True: there is no engine to build"):
        Classifier(engine, build=True)
    with pytest.raises(ArgumentError, match="build=True: there is no engine to build"):
        Classifier(MODEL, device="cpu", build=True)
