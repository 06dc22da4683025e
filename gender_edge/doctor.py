"""What is installed here, what works, and what a classifier would run on: `gender-edge doctor`."""

from __future__ import annotations

import platform
import re
from pathlib import Path
from typing import Any

from . import __version__, caching, engines, faces, gstreamer, zoo
from .backends import cuda, installed, tensorrt_api
from .engine_info import EngineInfo
from .errors import BackendError, GenderEdgeError

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
    kept, shipped = _tried(lambda: list(engines.cached())), _tried(zoo.names)
    return {
        "gender_edge": f"{__version__}, Python {platform.python_version()}, {platform.platform()}",
        "packages": {name: version for name in PACKAGES if (version := installed.version(name))},
        "onnxruntime providers": _providers(),
        "gpus": _gpus(),
        "pycuda": repr(device) if isinstance(device, cuda.Device) else str(device),
        "tensorrt": repr(api) if isinstance(api, tensorrt_api.TensorRT) else str(api),
        "engine cache": str(_tried(caching.cache_folder)),
        "cached engines": [str(kept)]
        if isinstance(kept, GenderEdgeError)
        else [_engine(path, info, api, device) for path, info in kept],
        "shipped models": [str(shipped)] if isinstance(shipped, GenderEdgeError) else shipped,
        "default": _default(),
        "face detector": str(_tried(faces.detector)),
        "gstreamer": "installed" if gstreamer.installed() else "not installed",
    }


def _tried(function: Any) -> Any:
    """What it returns, or the error it raises."""
    try:
        return function()
    except GenderEdgeError as error:
        return error


def _providers() -> list[str]:
    """Of ONNX Runtime, and what is wrong with its installation."""
    try:
        from .backends import onnx
    except BackendError as error:
        return [str(error)]
    return onnx.providers() + [fault for fault in [installed.conflict()] if fault]


def _gpus() -> list[str]:
    """Every GPU, as the driver alone tells it, without pycuda; or why there is none."""
    found: list[str] = []
    try:
        for index in range(cuda.count()):
            gpu = cuda.identify(index)
            found.append(
                f"{index}: {gpu['name']} (compute capability {gpu['compute_capability']}), driver "
                f"{_release() or 'of unknown release'} for CUDA {gpu['driver_cuda']}"
            )
    except BackendError as error:
        found.append(str(error))
    return found


def _release() -> str:
    """The NVIDIA driver's own release, where the kernel module tells it."""
    try:
        text = Path("/proc/driver/nvidia/version").read_text()
    except OSError:
        return ""
    match = re.search(r"\b\d{3}\.\d+(\.\d+)?\b", text)
    return match.group() if match else ""


def _engine(path: Path, info: Any, api: Any, device: Any) -> str:
    if not isinstance(info, EngineInfo):
        return f"{path.name}: {info}"
    broken = next((e for e in (api, device) if isinstance(e, GenderEdgeError)), None)
    if broken is not None:
        return f"{path.name}: cannot run here"
    reason = info.misfit(api, device.name, device.capability)
    return f"{path.name}: {'fits' if reason is None else reason}"


def _default() -> str:
    """What `Classifier()` opens, by opening it."""
    from .classifier import Classifier

    try:
        with Classifier() as classifier:
            return repr(classifier)
    except GenderEdgeError as error:
        return str(error)
