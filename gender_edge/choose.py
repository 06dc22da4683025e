"""Which shipped model to take under a budget of time, size and accuracy.

Latency is what a face alone takes from uint8 crop to prediction, median of many: from
`timings.json`, which `benchmarks/run.py --record` keeps beside the models, if it was recorded on
this processor with this engine; else measured here and now.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Optional

import numpy as np

from . import zoo
from .classifier import Classifier
from .errors import BackendError, ModelError
from .opening import engine_of

TIMINGS = "timings.json"
SECONDS = 0.3  # for a measurement here
FEWEST_RUNS = 5
RECORDED_ENGINES = {"cpu": "onnxruntime", "openvino": "openvino"}


@dataclass(frozen=True)
class Candidate:
    """A shipped model on this machine.

    Attributes:
        name: as `Classifier` takes it.
        accuracy: mean over the test sets of the recorded balanced accuracy, 0 to 1.
        bytes: of its file.
        latency_ms: of one face.
        recorded: whether that is from the records rather than measured now.
    """

    name: str
    accuracy: float
    bytes: int
    latency_ms: float
    recorded: bool


def candidates(device: str = "auto", threads: Optional[int] = None) -> list[Candidate]:
    """All shipped models that run on a device, the fastest first.

    Raises:
        BackendError: none of them does.
    """
    found, reasons = [], []
    for name in zoo.names():
        try:
            latency, recorded = _latency(name, device, threads)
        except BackendError as error:
            reasons.append(f"{name}: {error}")
            continue
        entry = zoo.entry(name)
        found.append(
            Candidate(name, entry.accuracy["value"], entry.bytes, latency, recorded=recorded)
        )
    if not found:
        raise BackendError("; ".join(reasons))
    return sorted(found, key=lambda c: c.latency_ms)


def best(
    budget_ms: Optional[float] = None,
    *,
    max_mb: Optional[float] = None,
    min_accuracy: Optional[float] = None,
    device: str = "auto",
    threads: Optional[int] = None,
) -> Candidate:
    """The most accurate shipped model within a budget; of equals the faster.

    Args:
        budget_ms: most milliseconds for one face.
        max_mb: largest file, in 1e6 bytes.
        min_accuracy: least mean balanced accuracy, 0 to 1.
        device, threads: as `Classifier` takes them.

    Raises:
        ModelError: none fits; says how near each comes.
        BackendError: the device cannot be had.
    """
    return pick(candidates(device, threads), budget_ms, max_mb, min_accuracy)


def pick(
    found: Sequence[Candidate],
    budget_ms: Optional[float],
    max_mb: Optional[float],
    min_accuracy: Optional[float],
) -> Candidate:
    """The best of some candidates; see `best`."""
    fitting = [
        c
        for c in found
        if (budget_ms is None or c.latency_ms <= budget_ms)
        and (max_mb is None or c.bytes <= max_mb * 1e6)
        and (min_accuracy is None or c.accuracy >= min_accuracy)
    ]
    if not fitting:
        known = "; ".join(
            f"{c.name} {c.latency_ms:.2f} ms, {c.bytes / 1e6:.2f} MB, {100 * c.accuracy:.1f} %"
            for c in found
        )
        raise ModelError(f"no shipped model fits that budget; there are {known}")
    return max(fitting, key=lambda c: (c.accuracy, -c.latency_ms))


def _latency(name: str, device: str, threads: Optional[int]) -> tuple[float, bool]:
    engine = RECORDED_ENGINES.get(engine_of(name, device))
    if engine and threads is None and processor():
        key = zoo.entry(name).sha256[:16]
        for record in records():
            if record["host"] == host(engine) and key in record["p50_ms"]:
                return float(record["p50_ms"][key]), True
    with Classifier(name, device=device, threads=threads) as classifier:
        return _measured(classifier), False


def _measured(classifier: Classifier) -> float:
    side = classifier.spec.input_size
    crop = np.random.default_rng(0).integers(0, 256, (1, side, side, 3), np.uint8)
    times: list[float] = []
    end = time.perf_counter() + SECONDS
    while time.perf_counter() < end or len(times) < FEWEST_RUNS:
        begin = time.perf_counter()
        classifier.predict(crop)
        times.append(time.perf_counter() - begin)
    return 1e3 * float(np.median(times))


def records() -> list[dict[str, Any]]:
    """What `timings.json` holds: host, and milliseconds by the first 16 digits of the sha256."""
    try:
        found: list[dict[str, Any]] = json.loads((zoo.folder() / TIMINGS).read_text())
    except FileNotFoundError:
        return []
    return found


def host(engine: str) -> dict[str, Any]:
    """What a record must agree with to count: processor, cores, engine and its version."""
    return {"cpu": processor(), "cores": os.cpu_count(), "engine": f"{engine} {version(engine)}"}


def version(engine: str) -> str:
    """The version of an engine's package, whichever of its packages is installed."""
    for package in (engine, f"{engine}-gpu"):
        try:
            return metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return "of unknown version"


def processor() -> Optional[str]:
    """The processor's name, as the system tells it; None where it tells none."""
    try:
        text = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:  # not Linux
        text = ""
    match = re.search(r"^(?:model name|Model)\s*:\s*(.+)$", text, re.MULTILINE)
    return match.group(1).strip() if match else None
