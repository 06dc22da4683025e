"""Multiply-accumulates of a peer's network, counted in the file that it comes as."""

from __future__ import annotations

import math
from pathlib import Path

from gender_edge.backends import installed


def macs(path: Path) -> int | None:
    """Multiply-accumulates of convolutions and matrix products for one face, of an ONNX or
    OpenVINO IR file; None without OpenVINO, which reads both.
    """
    if not installed.openvino():
        return None
    import openvino

    model = openvino.Core().read_model(str(path))
    model.reshape({0: [1, *list(model.inputs[0].partial_shape)[1:]]})
    total = 0
    for node in model.get_ops():
        if node.get_type_name() not in ("Convolution", "GroupConvolution", "MatMul"):
            continue
        data, weights = (list(node.input_value(number).shape) for number in (0, 1))
        if node.get_type_name() == "MatMul":
            each = data[-2 if node.get_attributes()["transpose_a"] else -1]
        else:
            each = math.prod(weights[-3:])  # input channels of a group, kernel height and width
        total += math.prod(node.output(0).shape) * each
    return total
