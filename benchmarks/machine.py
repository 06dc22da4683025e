"""What machine a result was measured on: everything that a reader needs to compare it."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path
from typing import Any

import cv2

from gender_edge import BackendError, host
from gender_edge.backends import cuda, installed

PACKAGES = (
    "gender_edge",
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "numpy",
    "opencv-python-headless",
)
GPU_PACKAGES = ("tensorrt", "tensorrt-rtx-cu13", "pycuda")


def describe() -> dict[str, Any]:
    """Processor, cores, GPUs, system, package versions and present load."""
    gpus = _gpus()
    packages = (*PACKAGES, *GPU_PACKAGES) if gpus else PACKAGES
    return {
        "cpu": host.processor() or platform.processor() or platform.machine(),
        "cores": host.cores(),
        "features": host.features(),
        "memory_gb": _memory_gb(),
        "gpus": gpus,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: version for name in packages if (version := installed.version(name))},
        "opencv": cv2.__version__,
        "power": _power(),
        "load_before": [round(v, 2) for v in os.getloadavg()],
    }


def _gpus() -> list[dict[str, str]]:
    """Name, compute capability and driver of each NVIDIA GPU; none where there is no driver."""
    try:
        return [cuda.identify(index) for index in range(cuda.count())]
    except BackendError:
        return []


def _power() -> dict[str, str]:
    """What the kernel says of the processor's speed: governor and boost, where it does."""
    root = Path("/sys/devices/system/cpu")
    places = {
        "governor": root / "cpu0/cpufreq/scaling_governor",
        "boost": root / "cpufreq/boost",
        "no_turbo": root / "intel_pstate/no_turbo",
    }
    return {name: text for name, place in places.items() if (text := _read(str(place)).strip())}


def slug(machine: dict[str, Any]) -> str:
    """A file name for results of this processor: cpu-instructions-cores-onnxruntime-version."""
    processor = host.titled(machine["cpu"], machine["features"])
    runtime = machine["packages"].get("onnxruntime") or machine["packages"].get("onnxruntime-gpu")
    return slug_of(f"{processor}-{machine['cores']}core-onnxruntime{runtime}")


def gpu_slug(gpu: str, backend: str) -> str:
    """A file name for results of a GPU, by its name and what ran there: gpu-trt-version for
    "tensorrt VERSION".
    """
    return slug_of(f"{gpu}-{backend.replace('tensorrt ', 'trt')}")


def slug_of(text: str) -> str:
    """Lower case letters, digits, dots and dashes."""
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:  # not Linux
        return ""


def _memory_gb() -> float | None:
    total = re.search(r"^MemTotal:\s*(\d+)", _read("/proc/meminfo"), re.MULTILINE)
    return round(int(total.group(1)) / 1e6, 1) if total else None
