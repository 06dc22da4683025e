"""What shared batches cost at worst: how long crops wait for their answers when a batch fills up
just in time.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import numpy as np

from gender_edge import Classifier
from gender_edge.batcher import Batcher

SPREAD = 0.9  # of the delay, within which all have asked


def measure(
    classifier: Classifier, cameras: int, faces: int, seconds: float, delay: float
) -> dict[str, Any]:
    """One full batch after another: each camera asks at a moment of its own within the delay.

    Args:
        classifier: what answers.
        cameras, faces: threads that ask, and crops that each asks about.
        seconds: how long.
        delay: seconds that the first crop of a batch waits for others at most.

    Returns:
        Crops of a full batch, how many batches ran and how full they were, and percentiles of the
        time from question to answer, waiting for the others included, in ms.
    """
    side = classifier.spec.input_size
    crops = list(np.random.default_rng(0).integers(0, 256, (faces, side, side, 3), np.uint8))
    classifier.probabilities(np.stack(crops * cameras))  # warm
    rng, waits = np.random.default_rng(1), list[float]()

    def ask(pause: float) -> float:
        time.sleep(pause)
        asked = time.monotonic()
        batcher.ask(crops)
        return time.monotonic() - asked

    with (
        Batcher(classifier, max_batch=cameras * faces, max_delay=delay) as batcher,
        ExitStack() as stack,
    ):
        for _ in range(cameras):
            stack.enter_context(batcher.caller())  # so that batches wait for all of them
        pool, end = stack.enter_context(ThreadPoolExecutor(cameras)), time.monotonic() + seconds
        while time.monotonic() < end:
            waits += pool.map(ask, rng.uniform(0, SPREAD * delay, cameras))
    p50, p99 = np.percentile(waits, (50, 99))
    return {
        "faces": cameras * faces,
        "batches": batcher.batches,
        "faces_per_batch": batcher.faces / batcher.batches,
        "p50_ms": float(1e3 * p50),
        "p99_ms": float(1e3 * p99),
    }
