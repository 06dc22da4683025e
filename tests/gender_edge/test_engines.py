"""Everything about engines that can be known without a GPU, with a real TensorRT-RTX."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from gender_edge import (
    ArgumentError,
    BackendError,
    Classifier,
    ModelError,
    build_engine,
    engines,
    zoo,
)
from gender_edge.backends import cuda, tensorrt_api
from gender_edge.backends.tensorrt_api import Target
from gender_edge.cli import main
from gender_edge.engine_info import EngineInfo, sidecar
from gender_edge.engines import cache_path, cached
from gender_edge.half import halve
from gender_edge.symmetric import symmetric

pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GENDER_EDGE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def api() -> tensorrt_api.TensorRT:
    found = tensorrt_api.load()
    if not found.is_rtx:
        pytest.skip("a full TensorRT is here; the tests marked gpu cover it")
    return found


@pytest.fixture
def without_gpu() -> None:
    try:
        cuda.open_device()
    except BackendError:
        return
    pytest.skip("a GPU is here")


def test_every_shipped_model_is_parsed_and_built(shipped: str, api: tensorrt_api.TensorRT) -> None:
    phases: list[tuple[str, int, int]] = []
    path = build_engine(
        shipped, targets=("8.6",), max_batch=16, progress=lambda *step: phases.append(step)
    )
    plan, info = path.read_bytes(), EngineInfo.read(path)
    assert plan[:4] == b"vtrt"  # raw: nothing of ours in front
    assert info.spec.name == shipped
    assert info.onnx_sha256 == zoo.entry(shipped).sha256
    assert info.tensorrt == (api.name, api.version)
    assert info.target == Target(8, 16, info.spec.precision, False, ("8.6",))
    assert info.gpu is None
    assert phases and all(0 <= step <= steps for _, step, steps in phases)


def test_network_is_what_the_metadata_says(shipped: str, api: tensorrt_api.TensorRT) -> None:
    trt = api.module
    network = trt.Builder(api.logger).create_network(0)
    parser = trt.OnnxParser(network, api.logger)
    assert parser.parse(symmetric(zoo.read(shipped)))
    with Classifier(shipped) as classifier:
        spec = classifier.spec
    assert (network.num_inputs, network.num_outputs) == (1, 1)
    images, logits = network.get_input(0), network.get_output(0)
    assert tuple(images.shape) == (-1, spec.input_size, spec.input_size, 3)
    assert images.dtype == trt.DataType.UINT8
    assert tuple(logits.shape) == (-1, 2)
    assert logits.dtype == trt.DataType.FLOAT


def test_int8_convolutions_run_as_int8(shipped: str, api: tensorrt_api.TensorRT) -> None:
    """Counted in what the builder says of its layers."""
    if not shipped.endswith("_int8"):
        pytest.skip("not an INT8 model")
    api.build(halve(symmetric(zoo.read(shipped))), Target(capabilities=("8.6",)))
    layers = api.layers()
    onnx = pytest.importorskip("onnx")
    nodes = onnx.load_from_string(zoo.read(shipped)).graph.node
    convolutions = [text for text in layers if "LayerType: correlation" in text]
    expected = [n for n in nodes if n.op_type == "Conv"]
    assert len(convolutions) == len(expected)
    for text in convolutions:
        assert "Datatype: Int8" in text.split("Constants:")[0]


def test_nothing_is_computed_in_fp32(
    shipped: str, api: tensorrt_api.TensorRT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Convolutions take INT8, or FP16 where an FP32 model is built in FP16: never FP32."""
    precision = "fp16" if shipped.endswith("_fp32") else None
    monkeypatch.setattr(tensorrt_api, "load", lambda: api)
    path = build_engine(shipped, tmp_path / "e.plan", targets=("8.6",), precision=precision)
    kinds = ("correlation", "maxpool", "gemm")
    layers = [t for t in api.layers() if any(f"LayerType: {k}" in t for k in kinds)]
    assert len(layers) >= 11  # 8 convolutions and 3 pools of the smallest
    for text in layers:
        first = text.split("Inputs:")[1].split("}")[0]  # further ones are scales
        assert "Datatype: Int8" in first or "Datatype: Half" in first
    assert EngineInfo.read(path).spec.precision == (precision or "int8")


def test_only_fp32_models_are_built_in_fp16() -> None:
    name = next(n for n in zoo.names() if n.endswith("_int8"))
    with pytest.raises(ArgumentError, match="cannot be built in fp16"):
        build_engine(name, targets=("8.6",), precision="fp16")


def test_a_cached_engine_is_not_built_again(
    cache: Path, api: tensorrt_api.TensorRT, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build_engine(zoo.default(), targets=("8.6",))
    assert first.parent == cache / "engines"

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("built again")

    monkeypatch.setattr(tensorrt_api.TensorRT, "build", fail)
    assert build_engine(zoo.default(), targets=("8.6",)) == first
    with pytest.raises(AssertionError, match="built again"):
        build_engine(zoo.default(), targets=("8.6",), max_batch=8)


def test_cache_key_follows_everything_that_matters(api: tensorrt_api.TensorRT) -> None:
    targets = [Target(), Target(max_batch=8), Target(portable=True), Target(capabilities=("8.6",))]
    paths = [cache_path("a", "m", api, "gpu", t) for t in targets]
    paths += [cache_path("b", "m", api, "gpu", Target()), cache_path("a", "m", api, "x", Target())]
    assert len(set(paths)) == len(paths)
    assert cache_path("a", "m", api, "gpu", Target()) == paths[0]


def test_cached_engines_are_listed_and_judged(api: tensorrt_api.TensorRT, cache: Path) -> None:
    assert cached() == []
    path = build_engine(zoo.default(), targets=("8.6",))
    sidecar(path).with_name("junk.engine.json").write_text("{")
    (path.parent / "junk.engine").write_bytes(b"")
    found = dict(cached())
    assert "cannot be read" in str(found[path.parent / "junk.engine"])
    info = found[path]
    assert isinstance(info, EngineInfo)
    assert info.misfit(api, "any GPU", "8.6") is None
    assert "any GPU (9.0)" in str(info.misfit(api, "any GPU", "9.0"))
    here = replace(info, gpu="GPU A", capability="8.6", target=Target())
    assert here.misfit(api, "GPU A", "8.6") is None
    assert "for GPU A (8.6), found " in str(here.misfit(api, "GPU B", "8.6"))
    assert replace(here, target=Target(portable=True)).misfit(api, "GPU B", "8.6") is None
    older = replace(here, tensorrt=("tensorrt", "8.6.0"))
    assert "built by tensorrt 8.6.0" in str(older.misfit(api, "GPU A", "8.6"))


@pytest.mark.usefixtures("without_gpu")
def test_auto_takes_the_cpu_and_tensorrt_says_why_not() -> None:
    with Classifier() as classifier:
        assert classifier.backend.startswith(("onnxruntime", "openvino"))
    with pytest.raises(BackendError, match=r"pycuda|driver"):
        Classifier(device="tensorrt")


@pytest.mark.usefixtures("without_gpu")
def test_without_a_gpu_it_says_what_is_missing(api: tensorrt_api.TensorRT, tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=r"(pycuda|driver).*--target"):
        build_engine(zoo.default())
    path = build_engine(zoo.default(), tmp_path / "a.engine", targets=("8.6",))
    with pytest.raises(BackendError, match=r"pycuda|driver"):
        Classifier(path)


def test_targets_that_do_not_exist(api: tensorrt_api.TensorRT, tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=r"no target 3\.5"):
        build_engine(zoo.default(), targets=("3.5",))
    with pytest.raises(BackendError, match="cannot build"):
        build_engine("slim_fp32", targets=("7.5",))  # Turing: RTX has no FP32 GEMM for it
    build_engine("slim_fp32", tmp_path / "half.plan", targets=("7.5",), precision="fp16")
    with pytest.raises(ArgumentError, match="max_batch=0"):
        build_engine(zoo.default(), max_batch=0)
    with pytest.raises(ModelError):
        build_engine("none", targets=("8.6",))
    assert not list(tmp_path.rglob("*.engine")) and not list(tmp_path.rglob("*.partial"))


def test_onnx_that_is_none(api: tensorrt_api.TensorRT) -> None:
    with pytest.raises(BackendError, match="cannot parse"):
        api.build(b"junk", Target(capabilities=("8.6",)))


@pytest.mark.parametrize("damage", ["junk", "truncated", "empty", "foreign"])
def test_engine_files_that_are_damaged(damage: str, tmp_path: Path) -> None:
    path = build_engine(zoo.default(), tmp_path / "a.engine", targets=("8.6",))
    plan = path.read_bytes()
    path.write_bytes(
        {"junk": b"junk" * 99, "truncated": plan[:-9], "empty": b"", "foreign": b"ftrt" + plan[4:]}[
            damage
        ]
    )
    with pytest.raises(ModelError, match=r"truncated or was replaced.*build .* --target 8\.6"):
        Classifier(path)


@pytest.mark.parametrize("kind", ["junk", "truncated", "empty"])
def test_tensorrt_gives_its_reason(kind: str, api: tensorrt_api.TensorRT, tmp_path: Path) -> None:
    """What the runtime itself says of a plan; it needs no driver to refuse these."""
    plan = build_engine(zoo.default(), tmp_path / "a.engine", targets=("8.6",)).read_bytes()
    bad = {"junk": b"junk" * 99, "truncated": plan[: len(plan) // 2], "empty": b""}[kind]
    _, engine = api.deserialize(bad)
    assert engine is None
    assert "no reason" not in api.reason()


def test_sidecar_errors(tmp_path: Path) -> None:
    path = build_engine(zoo.default(), tmp_path / "a.engine", targets=("8.6",))
    content = json.loads(sidecar(path).read_text())
    sidecar(path).write_text(json.dumps({**content, "format": 99}))
    with pytest.raises(ModelError, match="another format"):
        Classifier(path)
    for damaged in ("{", "null", '"a"'):
        sidecar(path).write_text(damaged)
        with pytest.raises(ModelError, match="cannot be read"):
            Classifier(path)
    sidecar(path).unlink()
    with pytest.raises(ModelError, match="missing"):
        Classifier(path)
    with pytest.raises(ModelError, match=f"no such engine; .* build {zoo.default()} --output"):
        Classifier(tmp_path / f"{zoo.default()}.engine")


def test_build_command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    output = str(tmp_path / "a.engine")
    argv = ["build", zoo.default(), "--output", output, "--target", "8.6", "--target", "8.9"]
    assert main(argv) == 0
    assert "for 8.6, 8.9" in capsys.readouterr().out
    assert Path(output).exists()
    assert main(["build", zoo.default(), "--target", "1.0"]) == 2


def test_build_says_what_it_does_and_how_to_open_it(capsys: pytest.CaptureFixture[str]) -> None:
    name = "slim_fp32"
    assert main(["build", name, "--target", "8.6", "--fp16", "--max-batch", "4"]) == 0
    captured = capsys.readouterr()
    assert captured.err.startswith(f"building {name}")
    assert "\nBuilding engine 6/6\n" in captured.err and "\r" not in captured.err
    assert "open this one by its path" in captured.err.replace("\n", " ")
    path = Path(captured.out.split("\t")[0])
    flags = "--max-batch 4 --fp16 --target 8.6"
    command = EngineInfo.read(path).rebuild(Path("a b.engine"))
    assert command.endswith(f"gender-edge build {name} --output 'a b.engine' {flags}")


def test_nothing_but_the_engine_is_left_where_it_was_wanted(tmp_path: Path) -> None:
    path = build_engine("nano_gray_int8", tmp_path / "out" / "a.engine", portable=True)
    assert {p.name for p in path.parent.iterdir()} == {"a.engine", "a.engine.json"}
    assert EngineInfo.read(path).place == ", ".join(tensorrt_api.RTX_PORTABLE)


class Config:
    """What a builder's configuration was told of its targets, and of its timing cache."""

    num_compute_capabilities = -1

    def __init__(self, takes: bool = True) -> None:
        self.takes, self.told, self.caches = takes, [], []

    def set_compute_capability(self, capability: object, number: int) -> bool:
        self.told.append((str(capability).rsplit(".", 1)[1], number))
        return self.takes

    def create_timing_cache(self, content: bytes) -> object:
        return None if content == b"damaged" else content

    def set_timing_cache(self, cache: bytes, ignore_mismatch: bool) -> bool:
        self.caches.append(cache)
        return cache != b"foreign"


def test_rtx_is_told_what_to_build_for(api: tensorrt_api.TensorRT) -> None:
    told = {}
    for target in (Target(), Target(portable=True), Target(capabilities=("7.5", "8.6"))):
        config = Config()
        api._aim(config, target)
        assert config.num_compute_capabilities == len(config.told)
        told[target] = config.told
    assert list(told.values()) == [[("CURRENT", 0)], [], [("SM75", 0), ("SM86", 1)]]
    with pytest.raises(BackendError, match="does not build for CURRENT"):
        api._aim(Config(takes=False), Target())


def test_rtx_on_a_gpu_that_it_has_no_target_for(
    api: tensorrt_api.TensorRT, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It gets what loads, the portable kind first, as built for that GPU; and a warning."""
    aims: list[Target] = []
    loads = {True: b"portable", False: b"current"}
    here = SimpleNamespace(current=contextlib.nullcontext)
    monkeypatch.setattr(engines, "_where", lambda *_: ("Fake H100", "9.0"))
    monkeypatch.setattr(cuda, "open_device", lambda: here)
    monkeypatch.setattr(
        tensorrt_api.TensorRT,
        "build",
        lambda *a: aims.append(a[2]) or (loads[a[2].portable], b""),
    )
    fits: set[bytes] = {b"portable", b"current"}
    monkeypatch.setattr(
        tensorrt_api.TensorRT, "deserialize", lambda _, plan: (0, 0 if plan in fits else None)
    )
    for name, portable in (("slim_int8", [True]), ("nano_gray_int8", [True, False])):
        path = build_engine(name)
        assert [aim.portable for aim in aims] == portable
        assert path.read_bytes() == loads[portable[-1]]
        info = EngineInfo.read(path)
        assert not info.target.portable and info.misfit(api, "Fake H100", "9.0") is None
        assert "not for 9.0" in caplog.text
        aims.clear()
        caplog.clear()
        fits.discard(b"portable")
    fits.clear()
    with pytest.raises(BackendError, match=r"for Fake H100 \(9\.0\) it built nothing"):
        build_engine("slim_gray_int8")


@pytest.mark.parametrize("content", [b"damaged", b"foreign"])
def test_a_timing_cache_that_does_not_fit_begins_anew(content: bytes) -> None:
    class Full(tensorrt_api.TensorRT):
        is_rtx = False

        def __init__(self) -> None:
            pass

    config = Config()
    assert Full()._timing_cache(config, content) == b""
    assert config.caches[-1] == b""


def test_a_cache_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("GENDER_EDGE_CACHE", str(tmp_path / "file"))
    with pytest.raises(BackendError, match=r"cannot be made.*GENDER_EDGE_CACHE"):
        build_engine("nano_gray_int8", tmp_path / "a.engine", targets=("8.6",))


def test_an_engine_that_nothing_would_open_is_not_built(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"model\.trt: .*\.engine or \.plan"):
        build_engine(zoo.default(), tmp_path / "model.trt", targets=("8.6",))
    assert not any(tmp_path.iterdir())
