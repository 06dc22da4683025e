"""What is installed here, what works, and what a classifier would run on: `gender-edge doctor`."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import Any

from . import __version__, engines, zoo
from .backends import cuda, tensorrt_api
from .errors import GenderEdgeError

PACKAGES = (
    "numpy",
    "opencv-python-headless",
    "opencv-python",
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "tensorrt",
    "tensorrt-rtx-cu13",
    "pycuda",
)


def examine() -> dict[str, Any]:
    """Everything that decides what runs where, as text; what is missing says why."""
    api, device = _tried(tensorrt_api.load), _tried(cuda.open_device)
    return {
        "gender_edge": f"{__version__}, Python {platform.python_version()}, {platform.platform()}",
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "onnxruntime providers": _providers(),
        "gpu": _gpu(device),
        "tensorrt": repr(api) if isinstance(api, tensorrt_api.TensorRT) else str(api),
        "engine cache": str(engines.cache_folder()),
        "cached engines": [_engine(path, info, api, device) for path, info in engines.cached()],
        "shipped models": zoo.names(),
        "default": _default(),
    }


def _tried(function: Any) -> Any:
    """What it returns, or the error it raises."""
    try:
        return function()
    except GenderEdgeError as error:
        return error


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _providers() -> list[str]:
    import onnxruntime

    return [str(name) for name in onnxruntime.get_available_providers()]


def _gpu(device: Any) -> str:
    if isinstance(device, GenderEdgeError):
        return str(device)
    return f"{device!r}, {device.memory / 1e9:.0f} GB, driver for CUDA {device.driver_version}"


def _engine(path: Any, info: engines.EngineInfo, api: Any, device: Any) -> str:
    broken = next((e for e in (api, device) if isinstance(e, GenderEdgeError)), None)
    if broken is not None:
        return f"{path.name}: cannot run here"
    reason = engines.misfit(info, api, device.name, device.capability)
    return f"{path.name}: {'fits' if reason is None else reason}"


def _default() -> str:
    """What `Classifier()` opens, by opening it."""
    from .classifier import Classifier

    try:
        with Classifier() as classifier:
            return repr(classifier)
    except GenderEdgeError as error:
        return str(error)
