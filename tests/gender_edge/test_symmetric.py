"""The INT8 form that TensorRT takes is the same network over the same ranges."""

from __future__ import annotations

import sys

import numpy as np
import onnxruntime
import pytest

from gender_edge import BackendError, zoo
from gender_edge.symmetric import symmetric

onnx = pytest.importorskip("onnx")

SIDE = 16


@pytest.fixture(scope="module")
def unsigned(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A small network with random weights, quantised as the workshop does it."""
    torch = pytest.importorskip("torch", reason="torch (the export extra) is not installed")
    from export import graph
    from export.architectures import build
    from export.compression.quantize import quantize

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("unsigned")
    network = build("slim", {"stem": 8, "widths": [[16, 16], [32]]}, grayscale=False)
    graph.export(network, SIDE, folder / "fp32.onnx")
    quantize(folder / "fp32.onnx", pixels(64), folder / "int8.onnx")
    return (folder / "int8.onnx").read_bytes()


def pixels(count: int) -> np.ndarray:
    rng = np.random.default_rng(count)
    return rng.integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)


def logits(model: bytes, crops: np.ndarray) -> np.ndarray:
    return np.asarray(onnxruntime.InferenceSession(model).run(None, {"images": crops})[0])


def roundings(model: bytes) -> dict[str, list[np.ndarray]]:
    """Zero points by kind of node."""
    graph = onnx.load_from_string(model).graph
    values = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    kinds = ("QuantizeLinear", "DequantizeLinear")
    return {k: [values[n.input[2]] for n in graph.node if n.op_type == k] for k in kinds}


def test_every_zero_point_is_zero_and_signed(unsigned: bytes) -> None:
    assert any(z.dtype == np.uint8 for z in roundings(unsigned)["QuantizeLinear"])
    for zeros in roundings(symmetric(unsigned)).values():
        assert zeros
        assert all(z.dtype == np.int8 and (z == 0).all() for z in zeros)


def test_relu_is_written_where_rounding_did_it(unsigned: bytes) -> None:
    def count(model: bytes) -> int:
        return [n.op_type for n in onnx.load_from_string(model).graph.node].count("Relu")

    convolutions = [n.op_type for n in onnx.load_from_string(unsigned).graph.node].count("Conv")
    assert count(unsigned) == 0
    assert count(symmetric(unsigned)) == convolutions


def test_answers_differ_by_rounding_alone(unsigned: bytes) -> None:
    crops = pixels(48)
    before, after = logits(unsigned, crops), logits(symmetric(unsigned), crops)
    assert np.abs(before - after).max() < 0.1 * before.std()
    assert np.corrcoef(before.ravel(), after.ravel())[0, 1] > 0.99


def test_what_is_symmetric_stays(unsigned: bytes) -> None:
    once = symmetric(unsigned)
    assert symmetric(once) == once
    fp32 = next(name for name in zoo.names() if name.endswith("_fp32"))
    assert symmetric(zoo.read(fp32)) == zoo.read(fp32)


def test_engines_take_it(unsigned: bytes) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    from gender_edge.backends import tensorrt_api

    api = tensorrt_api.load()
    if not api.is_rtx:
        pytest.skip("a full TensorRT is here; the tests marked gpu cover it")
    api.build(symmetric(unsigned), tensorrt_api.Target(capabilities=("8.6",)))


def test_a_missing_onnx_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(BackendError, match="pip install onnx"):
        symmetric(b"")
