"""FP32 ONNX to INT8 Q/DQ ONNX by static quantisation, in the form that TensorRT also takes.

Symmetric INT8 with zero point 0, weights by channel, activations by tensor, no Q/DQ on biases.
Q/DQ stands behind every convolution, before its ReLU: only then does ONNX Runtime fuse an integer
convolution (without it, it computes in float, 4 times slower); TensorRT-RTX takes INT8 either way.
"""

from __future__ import annotations

import tempfile
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

from gender_edge.errors import DataError
from gender_edge.labelled import LABELS
from gender_edge.spec import CropRule

from .augment import evaluation_crop
from .data import Pack
from .graph import INPUT

METHODS = {
    "minmax": CalibrationMethod.MinMax,
    "entropy": CalibrationMethod.Entropy,
    "percentile": CalibrationMethod.Percentile,
}
BATCH = 32
NORMALISE = "normalise"  # the name of that module in `Network`, which begins its nodes' names


def calibration_crops(packs: list[Pack], count: int, size: int, seed: int = 0) -> np.ndarray:
    """Crops to estimate ranges on, cut as the runtime does: even over sets and labels.

    Returns:
        uint8 (about count, size, size, 3).
    """
    rng = np.random.default_rng(seed)
    each = -(-count // (len(packs) * len(LABELS)))
    rule, crops = CropRule(), []
    for pack in packs:
        for label in LABELS:
            members = [i for i, s in enumerate(pack.samples) if s.label == label]
            for i in rng.choice(members, min(each, len(members)), replace=False):
                crops.append(evaluation_crop(pack.image(i), pack.samples[i], rule, size))
    return np.stack(crops)


class _Crops(CalibrationDataReader):  # type: ignore[misc]
    """Feeds ONNX Runtime's calibrator in batches."""

    def __init__(self, crops: np.ndarray) -> None:
        self._batches = iter(np.array_split(crops, max(1, len(crops) // BATCH)))

    def get_next(self) -> Optional[dict[str, np.ndarray]]:
        batch = next(self._batches, None)
        return None if batch is None else {INPUT: batch}


def quantize(source: Path, crops: np.ndarray, target: Path, method: str = "minmax") -> None:
    """Write the INT8 twin of an FP32 file.

    Args:
        crops: uint8 (N, S, S, 3), what activation ranges are estimated on.
        method: "minmax", "entropy" or "percentile".
    """
    if method not in METHODS:
        raise DataError(f"calibration={method!r}: expected one of {', '.join(METHODS)}")
    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        # The grey conversion is a convolution too: quantising it would cost the input a bit.
        nodes = onnx.load(prepared).graph.node
        kept = [node.name for node in nodes if node.name.startswith(f"/{NORMALISE}/")]
        quantize_static(
            str(prepared),
            str(target),
            _Crops(crops),
            quant_format=QuantFormat.QDQ,
            calibrate_method=METHODS[method],
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            nodes_to_exclude=kept,
            op_types_to_quantize=["Conv", "Gemm", "MaxPool"],
            extra_options={
                "ActivationSymmetric": True,
                "WeightSymmetric": True,
                "QuantizeBias": False,
                "OpTypesToExcludeOutputQuantization": ["Gemm"],  # logits keep their resolution
            },
        )
