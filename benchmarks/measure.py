"""Measure one model at one batch size in a process of its own, so that its memory is its own.

Run by `run.py`, or by hand: `python -m benchmarks.measure MODEL --batch 8`. Prints one JSON
object. The clock runs around `Classifier.predict`: uint8 crops in memory to predictions; reading,
decoding and cutting are outside it.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from pathlib import Path
from typing import Any

import numpy as np

WARMUP_RUNS = 3


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


def measure(
    model: str, batch: int, seconds: float, threads: int | None, device: str
) -> dict[str, Any]:
    """Latency, throughput and memory of one model at one batch size.

    Args:
        model: a name or a path.
        batch: faces run at once.
        seconds: for how long.
        threads: CPU threads; None for the engine's own choice.
        device: as `Classifier` takes it.
    """
    started = time.perf_counter()
    from gender_edge import Classifier

    imported = time.perf_counter()
    after_import, _ = resident_mb()
    classifier = Classifier(model, device=device, threads=threads, batch_size=batch)
    loaded = time.perf_counter()
    after_load, _ = resident_mb()
    timed = _time_batch(classifier, batch, seconds)
    return {
        "classifier": repr(classifier),
        "backend": classifier.backend,
        "provider": classifier.provider,
        "import_s": imported - started,
        "load_s": loaded - imported,
        "resident_mb": {"import": after_import, "load": after_load, "peak": resident_mb()[1]},
        **timed,
    }


def _time_batch(classifier: Any, size: int, seconds: float) -> dict[str, Any]:
    side = classifier.spec.input_size
    crops = np.random.default_rng(0).integers(0, 256, (size, side, side, 3), np.uint8)
    for _ in range(WARMUP_RUNS):
        classifier.predict(crops)
    times: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 5:
        begin = time.perf_counter()
        classifier.predict(crops)
        times.append(time.perf_counter() - begin)
    p50, p90, p99 = (float(v) for v in 1e3 * np.percentile(times, (50, 90, 99)))
    return {
        "batch": size,
        "runs": len(times),
        "p50_ms": p50,
        "p90_ms": p90,
        "p99_ms": p99,
        "faces_per_s": size * len(times) / sum(times),
    }


def main() -> int:
    """Measure what the command line names and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    print(json.dumps(measure(**vars(arguments))))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
