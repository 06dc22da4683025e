"""What a process holds: resident memory, and memory of an NVIDIA GPU where the driver tells."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any


def resident_mb() -> tuple[float, float]:
    """Resident set now and at its peak, in MB.

    Read from the process's own memory map: getrusage's ru_maxrss would start at the parent's
    size, which Linux carries over fork and exec.
    """
    try:
        text = Path("/proc/self/status").read_text()
    except OSError:  # not Linux: the peak only, in bytes on macOS
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        return peak, peak
    found = dict(re.findall(r"^(VmRSS|VmHWM):\s+(\d+) kB", text, re.MULTILINE))
    return int(found["VmRSS"]) * 1024 / 1e6, int(found["VmHWM"]) * 1024 / 1e6


def of_batch(subject: Any, batch: int) -> dict[str, Any]:
    """Peak of a process that did nothing but open the subject and run this batch."""
    ready = subject.blank(batch)
    for _ in range(3):
        subject.run(ready)
    return {"peak": resident_mb()[1], "device_mb": device_mb()}


def gpu_handles() -> list[object]:
    """NVML's handles of the GPUs here; none where NVML (nvidia-ml-py) or a driver is missing."""
    try:
        import pynvml

        pynvml.nvmlInit()
        return [pynvml.nvmlDeviceGetHandleByIndex(n) for n in range(pynvml.nvmlDeviceGetCount())]
    except Exception:  # no such package, library, driver or GPU: each says it in its own way
        return []


def device_mb() -> float | None:
    """Memory of GPUs held by this process, in MB; None where NVML (nvidia-ml-py) does not tell it:
    it is not there, or it sees other process numbers than this one's (in a container).
    """
    try:
        import pynvml

        handles = gpu_handles()
        running = [p for h in handles for p in pynvml.nvmlDeviceGetComputeRunningProcesses(h)]
    except Exception:  # no such package, or this GPU does not tell
        return None
    held = [p.usedGpuMemory for p in running if p.pid == os.getpid()]
    return None if not held or None in held else sum(held) / 1e6
