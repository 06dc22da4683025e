"""The FP16-typed twin of a model file is the same network."""

from __future__ import annotations

import sys

import cv2
import numpy as np
import onnxruntime
import pytest

from gender_edge import BackendError, Classifier, ModelError, zoo
from gender_edge.half import halve
from gender_edge.symmetric import symmetric

onnx = pytest.importorskip("onnx")


def answers(content: bytes, crops: np.ndarray) -> np.ndarray:
    """P(first label), by ONNX Runtime, which casts where it has no FP16 kernel; as the file is
    written, because what it fuses of INT8 differs between the two types.
    """
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    logits = onnxruntime.InferenceSession(content, options).run(None, {"images": crops})[0]
    return 1 / (1 + np.exp(logits[:, 1] - logits[:, 0]))


def test_same_answers(shipped: str, face: np.ndarray) -> None:
    """A face at several exposures, turns and zooms."""
    content = symmetric(zoo.read(shipped))  # as an engine is built from it
    with Classifier(shipped) as classifier:
        side = classifier.spec.input_size
    views = []
    for turn in range(-20, 21, 5):
        for light in (0.6, 1.0, 1.4):
            centre = (face.shape[1] / 2, face.shape[0] / 2)
            matrix = cv2.getRotationMatrix2D(centre, turn, 1 + turn / 100)
            view = cv2.warpAffine(face, matrix, face.shape[1::-1])
            view = cv2.resize(view, (side, side), interpolation=cv2.INTER_AREA)
            views.append(np.clip(view * light, 0, 255).astype(np.uint8))
    crops = np.stack(views)
    difference = np.abs(answers(content, crops) - answers(halve(content), crops))
    int8 = shipped.endswith("_int8")  # there a last bit turns into a step of the INT8 grid
    assert difference.max() < (0.15 if int8 else 0.01)
    assert difference.mean() < (0.03 if int8 else 0.002)


def test_nothing_stays_in_fp32(shipped: str) -> None:
    graph = onnx.load_from_string(halve(zoo.read(shipped))).graph
    assert all(t.data_type != onnx.TensorProto.FLOAT for t in graph.initializer)
    assert graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert [n.op_type for n in graph.node].count("Cast") == 2


def test_weights_beyond_fp16_are_refused(shipped: str) -> None:
    model = onnx.load_from_string(zoo.read(shipped))
    tensor = next(t for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT)
    values = onnx.numpy_helper.to_array(tensor) + np.float32(1e6)
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    with pytest.raises(ModelError, match="beyond FP16"):
        halve(model.SerializeToString())


def test_a_missing_onnx_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(BackendError, match="pip install onnx"):
        halve(b"")
