"""Energy that the machine itself counts: the processor's packages (RAPL), NVIDIA GPUs (NVML)."""

from __future__ import annotations

from pathlib import Path

from benchmarks.memory import gpu_handles

POWERCAP = Path("/sys/class/powercap")


class Meter:
    """Counts joules from when it is made; None where no counter exists or may be read."""

    def __init__(self, powercap: Path = POWERCAP) -> None:
        self._zones = [
            zone
            for zone in sorted(powercap.glob("*-rapl:[0-9]*"))
            if _name(zone).startswith("package") and _read(zone / "energy_uj")
        ]
        self._gpus = _gpus()
        ranges = [_read(zone / "max_energy_range_uj") / 1e6 for zone in self._zones]
        self._ranges = [*ranges, *(0.0 for _ in self._gpus)]
        self._start = self._counters()

    def joules(self) -> float | None:
        """What was used since then by the whole machine, not by one process alone."""
        if not self._start:
            return None
        pairs = zip(self._start, self._counters(), self._ranges)
        steps = [(now - before, whole) for before, now, whole in pairs]
        return sum(s + whole if s < 0 else s for s, whole in steps)  # RAPL's counters begin anew

    def _counters(self) -> list[float]:
        packages = [_read(zone / "energy_uj") / 1e6 for zone in self._zones]
        return packages + [_gpu_joules(gpu) for gpu in self._gpus]


def _name(zone: Path) -> str:
    """What a zone counts: a package, or parts and sums of packages, which are not to be added."""
    try:
        return (zone / "name").read_text()
    except OSError:
        return ""


def _read(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # not there, or root's alone
        return 0


def _gpus() -> list[object]:
    handles = gpu_handles()
    try:
        for handle in handles:
            _gpu_joules(handle)
    except Exception:  # no such counter
        return []
    return handles


def _gpu_joules(handle: object) -> float:
    import pynvml

    return pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3
