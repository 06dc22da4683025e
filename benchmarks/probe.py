"""What the machine can do at best: multiply-accumulates and bytes a second, measured at the start.

Each row's distance to these peaks is its place under the roofline (Williams et al. 2009).
"""

from __future__ import annotations

import time
from typing import Callable

import numpy as np

SIDE = 1024  # of the matrices: large enough to be bound by arithmetic
COPY_BYTES = 64 * 1024 * 1024  # beyond most caches
SECONDS = 0.3


def peaks() -> dict[str, float]:
    """FP32 multiply-accumulates a second of a GEMM by NumPy's BLAS on all cores (in 1e9), and
    bytes a second of a copy, read and written (in 1e9).

    Kernels in INT8 or bfloat16 may pass the former.
    """
    left = np.random.default_rng(0).random((SIDE, SIDE), np.float32)
    product = np.empty_like(left)
    source = np.ones(COPY_BYTES, np.uint8)  # zeros would share one page that is in the cache
    target = np.ones_like(source)
    return {
        "gemm_gmacs": SIDE**3 / _fastest(lambda: np.matmul(left, left, out=product)) / 1e9,
        "copy_gb_s": 2 * COPY_BYTES / _fastest(lambda: np.copyto(target, source)) / 1e9,
    }


def _fastest(call: Callable[[], object]) -> float:
    best, end = np.inf, time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        begin = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - begin)
    return float(best)
