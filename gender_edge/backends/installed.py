"""Which engines are installed, found without importing them: an import costs time and memory."""

from __future__ import annotations

import importlib.util
from pathlib import Path


def openvino() -> bool:
    """Whether OpenVINO is; a mere folder of that name, which has no origin, is not."""
    found = importlib.util.find_spec("openvino")
    return found is not None and found.origin is not None


def onnxruntime_cuda() -> bool:
    """Whether ONNX Runtime is, in a build with its CUDA provider."""
    found = importlib.util.find_spec("onnxruntime")
    if found is None or found.origin is None:
        return False
    return any(Path(found.origin).parent.glob("capi/*onnxruntime_providers_cuda.*"))
