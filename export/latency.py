"""How long networks take for a face, side by side on this machine."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from gender_edge.classifier import Classifier

ROUNDS, CALLS = 15, 3


def latencies(files: Mapping[str, Path]) -> dict[str, np.ndarray]:
    """Milliseconds from a crop to its prediction on ONNX Runtime, float64 (ROUNDS,), by name.

    All are open together and take turns, so that a noisy moment hits all alike; a round is the
    median of some calls after one that is not timed.
    """
    rng, found = np.random.default_rng(0), np.empty((len(files), ROUNDS))
    with ExitStack() as stack:
        opened = [
            stack.enter_context(Classifier(file, device="onnxruntime")) for file in files.values()
        ]
        sides = [classifier.spec.input_size for classifier in opened]
        crops = [rng.integers(0, 256, (1, side, side, 3), np.uint8) for side in sides]
        for turn in range(ROUNDS):
            for number, classifier in enumerate(opened):
                found[number, turn] = _milliseconds(classifier, crops[number])
    return dict(zip(files, found))


def _milliseconds(classifier: Classifier, crop: np.ndarray) -> float:
    classifier.predict(crop)
    times = []
    for _ in range(CALLS):
        begin = time.perf_counter()
        classifier.predict(crop)
        times.append(time.perf_counter() - begin)
    return 1e3 * float(np.median(times))
