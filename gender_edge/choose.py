"""Which shipped model to take, on which engine, under a budget of time, size and accuracy.

Latency is what a face alone takes from uint8 crop to prediction, median of many: from
`timings.json`, which `benchmarks/run.py --record` keeps beside the models, if it was recorded on
this processor with this engine; else measured here and now.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, Optional

import numpy as np

from . import engines, host, zoo
from .backends import installed
from .classifier import Classifier
from .errors import BackendError, BudgetError, ModelError
from .opening import check_device

TIMINGS = "timings.json"
SECONDS = 0.3  # for a measurement here
FEWEST_RUNS = 5
TELLING = 0.002  # of accuracy: a standard error of the recorded means, less tells nothing
RECORDED_ENGINES = ("onnxruntime", "openvino")  # on the processor


@dataclass(frozen=True)
class Budget:
    """What a model may cost, and what it must be worth; None: any.

    Attributes:
        budget_ms: most milliseconds for one face.
        max_mb: largest file, in 1e6 bytes.
        min_accuracy: least mean balanced accuracy, 0 to 1.

    Raises:
        BudgetError: one of them is no number, or not in its unit.
    """

    budget_ms: Optional[float] = None
    max_mb: Optional[float] = None
    min_accuracy: Optional[float] = None

    def __post_init__(self) -> None:
        for name, value in (("budget_ms", self.budget_ms), ("max_mb", self.max_mb)):
            if value is not None and not (_is_number(value) and value > 0):
                raise BudgetError(f"{name}={value!r}: expected a finite number above 0")
        share = self.min_accuracy
        if share is not None and not (_is_number(share) and 0 <= share <= 1):
            raise BudgetError(f"min_accuracy={share!r}: expected a share from 0 to 1, as 0.95")

    def __str__(self) -> str:
        parts = (
            (self.budget_ms, "within {:g} ms", 1),
            (self.max_mb, "at most {:g} MB", 1),
            (self.min_accuracy, "right on at least {:g} %", 100),
        )
        asked = [text.format(unit * value) for value, text, unit in parts if value is not None]
        return ", ".join(asked) or "no limit"

    def allows(self, candidate: Candidate) -> bool:
        """Whether a model keeps all limits."""
        in_time = self.budget_ms is None or candidate.latency_ms <= self.budget_ms
        return in_time and self.admits(candidate.bytes, candidate.accuracy)

    def admits(self, size: int, accuracy: float) -> bool:
        """Whether it keeps those of its size in bytes and its accuracy, which are known before it
        is opened.
        """
        return (self.max_mb is None or size <= self.max_mb * 1e6) and (
            self.min_accuracy is None or accuracy >= self.min_accuracy
        )


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and math.isfinite(value)


NO_LIMIT = Budget()


@dataclass(frozen=True)
class Candidate:
    """A shipped model on an engine of this machine.

    Attributes:
        name: as `Classifier` takes it.
        engine: likewise, as its `device`.
        accuracy: mean over the default model's test sets of the recorded balanced accuracy, 0 to 1.
        bytes: of its file.
        latency_ms: of one face.
        recorded: whether that is from the records rather than measured now.
    """

    name: str
    engine: str
    accuracy: float
    bytes: int
    latency_ms: float
    recorded: bool

    def __str__(self) -> str:
        return (
            f"{self.name} on {self.engine} {self.latency_ms:.2f} ms, {self.bytes / 1e6:.2f} MB, "
            f"{100 * self.accuracy:.1f} %"
        )


def candidates(
    device: str = "auto", threads: Optional[int] = None, budget: Budget = NO_LIMIT
) -> tuple[list[Candidate], list[str]]:
    """The shipped models on every engine that a device stands for.

    Args:
        device, threads: as for `best`.
        budget: what it does not admit is left out, and not opened to be timed.

    Returns:
        Those that run and were tested on the same sets, the fastest first; why others are not
        among them.

    Raises:
        ArgumentError: there is no such device.
        BackendError: no model that the budget admits runs there.
        ModelError: the recorded latencies are damaged.
    """
    check_device(device)
    yardstick = zoo.entry(zoo.default())
    known = records()
    found: list[Candidate] = []
    left_out: list[str] = []
    broken: list[str] = []
    for name in zoo.names():
        try:
            entry = zoo.entry(name)
            accuracy = entry.accuracy_on(yardstick.evaluation["sets"])["value"]
        except ModelError as error:
            left_out.append(str(error))
            continue
        if not budget.admits(entry.bytes, accuracy):
            left_out.append(f"{name} {entry.bytes / 1e6:.2f} MB, {100 * accuracy:.1f} %")
            continue
        for engine in _engines_of(device):
            if reason := _in_float(entry, engine):
                left_out.append(reason)
                continue
            try:
                latency, recorded = _latency(entry, engine, threads, known)
            except (BackendError, ModelError) as error:
                broken.append(f"{name} on {engine}: {error}")
                continue
            found.append(Candidate(name, engine, accuracy, entry.bytes, latency, recorded))
    if not found and (broken or budget == NO_LIMIT):
        raise BackendError("; ".join(left_out + broken))
    return sorted(found, key=lambda c: c.latency_ms), left_out + broken


def best(
    budget_ms: Optional[float] = None,
    *,
    max_mb: Optional[float] = None,
    min_accuracy: Optional[float] = None,
    device: str = "auto",
    threads: Optional[int] = None,
) -> Candidate:
    """The fastest of the most accurate shipped models within a budget: of those that differ from
    the most accurate one by no more than `TELLING`.

    Args:
        budget_ms, max_mb, min_accuracy: see `Budget`.
        device, threads: as `Classifier` takes them; "auto" tries every engine that is installed,
            "cpu" those that compute on the processor.

    Raises:
        BudgetError: a limit is no number, or not in its unit.
        ModelError: none fits; says how near each comes. Or the recorded latencies are damaged.
        BackendError: the device cannot be had.
    """
    budget = Budget(budget_ms, max_mb, min_accuracy)
    return pick(*candidates(device, threads, budget), budget)


def pick(found: Sequence[Candidate], left_out: Sequence[str], budget: Budget) -> Candidate:
    """The best of what `candidates` returned; see `best`."""
    fitting = [c for c in found if budget.allows(c)]
    if not fitting:
        known = "; ".join([*map(str, found), *(f"left out: {reason}" for reason in left_out)])
        raise ModelError(f"no shipped model fits {budget}; there are {known}")
    least = max(c.accuracy for c in fitting) - TELLING
    alike = (c for c in fitting if c.accuracy >= least)
    return min(alike, key=lambda c: (c.latency_ms, -c.accuracy))


def installed_engines() -> list[str]:
    """Every engine that is installed, as `Classifier` takes it."""
    there = {
        "onnxruntime": True,
        "openvino": installed.openvino(),
        "cuda": installed.onnxruntime_cuda(),
        "tensorrt": engines.usable(),
    }
    return [name for name, found in there.items() if found]


def _engines_of(device: str) -> list[str]:
    if device not in ("auto", "cpu"):
        return [device]
    return [e for e in installed_engines() if device == "auto" or e in RECORDED_ENGINES]


def _in_float(entry: zoo.Entry, engine: str) -> Optional[str]:
    """Why an INT8 model is not for an engine: it would be computed in float, slower than FP32."""
    if entry.evaluation["spec"]["precision"] != "int8" or engine not in ("onnxruntime", "cuda"):
        return None
    from .backends import onnx

    if onnx.int8_pays(onnx.CUDA if engine == "cuda" else onnx.CPU):
        return None
    return f"{entry.name} on {engine}: INT8 is computed in float there"


def _latency(
    entry: zoo.Entry, engine: str, threads: Optional[int], known: Sequence[dict[str, Any]]
) -> tuple[float, bool]:
    """Milliseconds for one face, and whether they are recorded ones."""
    if engine in RECORDED_ENGINES and threads is None and host.processor():
        key, here = entry.sha256[:16], host.identity(engine)
        for record in known:
            if record["host"] == here and key in record["p50_ms"]:
                return record["p50_ms"][key], True
    with Classifier(entry.name, device=engine, threads=threads) as classifier:
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
    """What `timings.json` holds: host, and milliseconds by the first 16 digits of the sha256.

    Raises:
        ModelError: it is damaged.
    """
    path = zoo.folder() / TIMINGS
    try:
        found = json.loads(path.read_text())
        return [
            {"host": dict(own["host"]), "p50_ms": {k: float(v) for k, v in own["p50_ms"].items()}}
            for own in found
        ]
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"{path}: damaged ({error!r}); remove it, then latencies are measured here"
        ) from error
