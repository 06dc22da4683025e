"""FP32 ONNX to INT8 Q/DQ ONNX by static quantisation.

Weights symmetric by channel, activations from 0 to 255 by tensor, no Q/DQ on biases. Behind a
convolution 0 stands for zero and everything below: its ReLU is part of the rounding, which both
ONNX Runtime and OpenVINO fuse into an integer convolution. TensorRT wants activations symmetric
too; `gender_edge.symmetric` derives that form when an engine is built.

Weights count from -64 to 64. Without VNNI an x86 processor adds two products of a weight and an
activation in 16 bits and cuts off, without a word, what does not fit: 2 * 127 * 255 does not,
2 * 64 * 255 does. `export/NOTES.md` has what that cost.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Optional

import numpy as np
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quant_pre_process,
    quantize_static,
)

from ..graph import INPUT

METHODS = {
    "minmax": CalibrationMethod.MinMax,
    "entropy": CalibrationMethod.Entropy,
    "percentile": CalibrationMethod.Percentile,
}
BATCH = 32
WEIGHT_REACH = 64  # the largest integer of a weight, as `reduce_range` below has it
QUANTIZED = ("Conv", "Gemm", "MaxPool", "Relu")


class _Crops(CalibrationDataReader):  # type: ignore[misc]
    """Feeds ONNX Runtime's calibrator, which asks for a range of batches at a time: what all layers
    said of all crops would be gigabytes.
    """

    def __init__(self, crops: np.ndarray) -> None:
        self._batches = np.array_split(crops, max(1, len(crops) // BATCH))
        self.set_range(0, len(self))

    def __len__(self) -> int:
        return len(self._batches)

    def set_range(self, start_index: int, end_index: int) -> None:
        self._left = iter(self._batches[start_index:end_index])

    def get_next(self) -> Optional[dict[str, np.ndarray]]:
        batch = next(self._left, None)
        return None if batch is None else {INPUT: batch}


def quantize(
    source: Path,
    crops: np.ndarray,
    target: Path,
    method: str = "minmax",
    only: Sequence[str] = (),
    exact: Sequence[str] = (),
) -> None:
    """Write the INT8 twin of an FP32 file.

    Args:
        crops: uint8 (N, H, W, 3), what activation ranges are estimated on.
        method: "minmax", "entropy" or "percentile".
        only: names of the nodes to quantise; by default all that can be.
        exact: modules of the network whose nodes stay in float, by name.
    """
    # The calibrators print a line a batch.
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        nodes = onnx.load(prepared).graph.node
        modules = tuple(f"/{name}/" for name in exact)
        kept = [node.name for node in nodes if node.name.startswith(modules)]
        quantize_static(
            str(prepared),
            str(target),
            _Crops(crops),
            quant_format=QuantFormat.QDQ,
            calibrate_method=METHODS[method],
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=True,
            nodes_to_exclude=kept,
            nodes_to_quantize=list(only),
            op_types_to_quantize=list(QUANTIZED),
            extra_options={
                "ActivationSymmetric": False,
                "WeightSymmetric": True,
                "QuantizeBias": False,
                "CalibStridedMinMax": 1,  # of any method, in spite of its name: batches at a time
                "OpTypesToExcludeOutputQuantization": ["Gemm"],  # logits keep their resolution
            },
        )
