"""Energy that the machine itself counts: the processor's packages (RAPL), NVIDIA GPUs (NVML)."""

from __future__ import annotations

from pathlib import Path

POWERCAP = Path("/sys/class/powercap")


class Meter:
    """Joules since it was made; absent (`None`) where nothing counts or may be read."""

    def __init__(self, powercap: Path = POWERCAP) -> None:
        self._zones = [
            zone
            for zone in sorted(powercap.glob("*-rapl:[0-9]*"))
            if _name(zone).startswith("package") and _read(zone / "energy_uj")
        ]
        self._gpus = _gpus()
        self._start = self._counters()

    def joules(self) -> float | None:
        """What was used since then by the whole machine, not by one process alone."""
        if not self._zones and not self._gpus:
            return None
        used = 0.0
        for zone, before, now in zip(
            [*self._zones, *([None] * len(self._gpus))], self._start, self._counters()
        ):
            if zone is not None and now < before:  # a counter of RAPL has begun anew
                now += _read(zone / "max_energy_range_uj") / 1e6
            used += now - before
        return used

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
    try:
        import pynvml

        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(n) for n in range(pynvml.nvmlDeviceGetCount())]
        for handle in handles:
            pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except Exception:  # no such package, library, driver, GPU or counter
        return []
    return handles


def _gpu_joules(handle: object) -> float:
    import pynvml

    return pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3
