"""How long networks take for a face, side by side on this machine."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from gender_edge.classifier import Classifier

ROUNDS, CALLS = 15, 3


def latencies(files: Mapping[str, Path]) -> dict[str, np.ndarray]:
    """Milliseconds from a crop to its prediction on ONNX Runtime, float64 (ROUNDS,), by name.

    They take turns, so that a noisy moment hits all alike; a round is the median of some calls
    after some that are not timed. Only one is open at a time, because large ones would have to
    share the memory, and their threads the cores.
    """
    found = np.empty((len(files), ROUNDS))
    for turn in range(ROUNDS):
        for number, file in enumerate(files.values()):
            with Classifier(file, device="onnxruntime") as classifier:
                found[number, turn] = _milliseconds(classifier)
    return dict(zip(files, found))


def _milliseconds(classifier: Classifier) -> float:
    side = classifier.spec.input_size
    crop = np.random.default_rng(0).integers(0, 256, (1, side, side, 3), np.uint8)
    for _ in range(CALLS):
        classifier.predict(crop)
    times = []
    for _ in range(CALLS):
        begin = time.perf_counter()
        classifier.predict(crop)
        times.append(time.perf_counter() - begin)
    return 1e3 * float(np.median(times))
