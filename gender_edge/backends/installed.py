"""Which packages are installed, found without importing them: an import costs time and memory."""

from __future__ import annotations

import importlib.util
from importlib import metadata
from pathlib import Path
from typing import Optional

ONNXRUNTIME = ("onnxruntime", "onnxruntime-gpu")  # packages of the same files


def version(package: str) -> Optional[str]:
    """Of a package; None where none of that name is installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def conflict() -> str:
    """What is wrong with the packages of ONNX Runtime; empty if nothing is."""
    if not all(map(version, ONNXRUNTIME)):
        return ""
    names = " and ".join(ONNXRUNTIME)
    return f"{names} are both installed and overwrite each other: remove both, then install one"


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
