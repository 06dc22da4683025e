"""An engine in the cache of a GPU that is host memory."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

import pytest

from gender_edge import engines, zoo
from gender_edge.backends import cuda, tensorrt_api
from gender_edge.backends.tensorrt_api import Target
from gender_edge.engine_info import EngineInfo
from gender_edge.spec import ModelSpec

from .fake_gpu import LARGEST, MODEL, Gpu


@pytest.fixture(params=["10.3.0", "8.6.0", "1.7.1"])
def gpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Gpu:
    found = Gpu(request.param)
    api = tensorrt_api.TensorRT(found.tensorrt)
    monkeypatch.setattr(tensorrt_api, "load", lambda: api)
    monkeypatch.setattr(cuda, "_driver", lambda: found.driver)
    monkeypatch.setattr(cuda, "_library", lambda: found.library)
    monkeypatch.setattr(cuda, "open_device", functools.cache(cuda.open_device.__wrapped__))
    monkeypatch.setattr(engines, "obstacle", lambda: None)
    monkeypatch.setenv("GENDER_EDGE_CACHE", str(tmp_path))
    return found


@pytest.fixture(scope="module")
def spec() -> ModelSpec:
    return engines.spec_of(zoo.read(MODEL), MODEL)


@pytest.fixture
def engine(gpu: Gpu, spec: ModelSpec, tmp_path: Path) -> Path:
    """In the cache."""
    path, plan = tmp_path / "engines" / "a.engine", b"plan"
    path.parent.mkdir()
    path.write_bytes(plan)
    EngineInfo(
        spec=spec,
        model=MODEL,
        onnx_sha256=zoo.entry(MODEL).sha256,
        engine_sha256=hashlib.sha256(plan).hexdigest(),
        tensorrt=(gpu.tensorrt.__name__, gpu.version),
        gpu="Fake GPU",
        capability="8.6",
        target=Target(max_batch=LARGEST, precision=spec.precision),
    ).write(path)
    return path
