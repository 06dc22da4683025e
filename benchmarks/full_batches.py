"""What shared batches cost at worst: how long crops wait for their answers when a batch fills up
just in time.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
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
    batcher = Batcher(classifier, max_batch=cameras * faces, max_delay=delay)
    over = threading.Event()
    end = time.monotonic() + seconds

    def look() -> None:
        if time.monotonic() > end:
            over.set()

    round_begins = threading.Barrier(cameras, look)  # one looks, so that all end after one round

    def ask(number: int) -> list[float]:
        rng, waits = np.random.default_rng(number), []
        try:
            with batcher.caller():
                while round_begins.wait() >= 0 and not over.is_set():
                    time.sleep(rng.uniform(0, SPREAD * delay))
                    asked = time.monotonic()
                    batcher.ask(crops)
                    waits.append(time.monotonic() - asked)
        except BaseException:
            round_begins.abort()  # the others would wait for ever
            raise
        return waits

    try:
        with ThreadPoolExecutor(cameras) as pool:
            waits = [wait for own in pool.map(ask, range(cameras)) for wait in own]
    finally:
        batcher.close()
    p50, p99 = np.percentile(waits, (50, 99))
    return {
        "faces": cameras * faces,
        "batches": batcher.batches,
        "faces_per_batch": batcher.faces / batcher.batches,
        "p50_ms": float(1e3 * p50),
        "p99_ms": float(1e3 * p99),
    }
