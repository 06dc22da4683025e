"""INT8 ONNX with activations from 0 to 255 to the symmetric form, the only one TensorRT takes.

On a CPU an unsigned activation saves the ReLU: what is negative is rounded to 0 anyway. TensorRT
counts from -127 to 127 and does the ReLU itself, as part of the convolution. The file that is
shipped is the CPU's; this derives the other from it when an engine is built, with the same weights
over the same ranges. Files that are symmetric already stay as they are.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .rewriting import onnx_package

_KEEPS_SIGN = ("MaxPool", "ReduceMean")  # not negative where their input is not


def symmetric(model: bytes) -> bytes:
    """The same network with every activation in INT8 of zero point 0.

    Raises:
        BackendError: the `onnx` package is missing.
    """
    onnx = onnx_package()
    network = onnx.load_from_string(model)
    graph = network.graph
    values = {t.name: t for t in graph.initializer}
    made_by = {name: node for node in graph.node for name in node.output}
    nodes, changed = [], False
    for node in graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            zero = onnx.numpy_helper.to_array(values[node.input[2]])
            if zero.dtype == np.uint8:
                changed = True
                if node.op_type == "QuantizeLinear" and zero == 0:
                    nodes += _relu(node, made_by.get(node.input[0]), onnx)
                node.input[1:] = _signed(node.input[1], zero, values, onnx)
        nodes.append(node)
    if not changed:
        return model
    used = {name for node in nodes for name in node.input}
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend(t for name, t in values.items() if name in used)
    onnx.checker.check_model(network)
    return bytes(network.SerializeToString())


def _relu(quantize: Any, maker: Any, onnx: Any) -> list[Any]:
    """The ReLU that rounding to 0 and above stood for, in front of that rounding."""
    if maker is not None and maker.op_type in _KEEPS_SIGN:
        return []
    source = quantize.input[0]
    quantize.input[0] = f"{source}_positive"
    return [onnx.helper.make_node("Relu", [source], [quantize.input[0]], f"{quantize.name}_relu")]


def _signed(scale: str, zero: np.ndarray, values: dict[str, Any], onnx: Any) -> list[str]:
    """Names of a scale and a zero point that cover the same range, added to `values`."""
    names = [f"{scale}_symmetric", "zero_symmetric"]
    step = onnx.numpy_helper.to_array(values[scale])
    steps = max(int(zero), 255 - int(zero)) / 127
    for name, value in zip(names, (step * np.float32(steps), np.zeros((), np.int8))):
        values[name] = onnx.numpy_helper.from_array(np.asarray(value), name)
    return names
