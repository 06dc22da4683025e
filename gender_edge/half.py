"""FP32 ONNX to FP16-typed ONNX, for TensorRT that takes every precision from the graph (>= 10.12).

Where part of an INT8 network stays in floating point there, it is computed in the type that the
file says; in FP32 most of INT8's gain is lost. The file that is shipped stays FP32-typed, which
ONNX Runtime, OpenVINO and TensorRT 8.6 want; this derives the other from it when an engine is
built. It needs the `onnx` package, which the `tensorrt` extra brings.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .errors import ModelError
from .rewriting import onnx_package

OPSET = 19  # the first whose Q/DQ takes FP16
LARGEST, LEAST = 65504.0, 2.0**-24  # of FP16


def halve(model: bytes) -> bytes:
    """The same network in FP16: input stays uint8, logits FP32, INT8 weights INT8.

    Raises:
        BackendError: the `onnx` package is missing.
        ModelError: a weight does not fit into FP16.
    """
    onnx = onnx_package()
    from onnx import TensorProto, helper, version_converter

    converted = version_converter.convert_version(onnx.load_from_string(model), OPSET)
    graph = converted.graph
    for tensor in graph.initializer:
        _halve_tensor(tensor, onnx)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.FLOAT16
            if node.op_type == "Constant" and attribute.name == "value":
                _halve_tensor(attribute.t, onnx)
    output = graph.output[0].name
    inner = f"{output}_half"
    for node in graph.node:
        node.output[:] = [inner if name == output else name for name in node.output]
        node.input[:] = [inner if name == output else name for name in node.input]
    graph.node.append(helper.make_node("Cast", [inner], [output], to=TensorProto.FLOAT))
    del graph.value_info[:]  # types of what lies between are another's now
    onnx.checker.check_model(converted)
    return bytes(converted.SerializeToString())


def _halve_tensor(tensor: Any, onnx: Any) -> None:
    if tensor.data_type != onnx.TensorProto.FLOAT:
        return
    values = onnx.numpy_helper.to_array(tensor)
    size = np.abs(values)
    if size.size and size.max() > LARGEST:
        raise ModelError(f"{tensor.name}: values beyond FP16's range; build this network in FP32")
    # Nothing may round to zero: a Q/DQ scale of zero would be divided by.
    kept = np.where((size > 0) & (size < LEAST), np.copysign(LEAST, values), values)
    tensor.CopyFrom(onnx.numpy_helper.from_array(kept.astype(np.float16), tensor.name))
