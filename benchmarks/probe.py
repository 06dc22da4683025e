"""What the machine can do at best: multiply-accumulates and bytes a second, measured at the start.

Each row's distance to these peaks is its place under the roofline (Williams et al. 2009).
"""

from __future__ import annotations

import base64
import time
from typing import Callable

import numpy as np
import onnxruntime

SIDE = 1024  # of the matrices: large enough to be bound by arithmetic
COPY_BYTES = 64 * 1024 * 1024  # beyond most caches
SECONDS = 0.3
# An ONNX file of one node, MatMulInteger of uint8 (M, K) with int8 (K, N), made by onnx.helper:
# that is not installed where this runs. A test makes it again.
MATMUL_INTEGER = base64.b64decode(
    "CAg6fAolCgRsZWZ0CgVyaWdodBIHcHJvZHVjdCINTWF0TXVsSW50ZWdlchIBZ1oYCgRsZWZ0EhAKDggC"
    "EgoKAxIBTQoDEgFLWhkKBXJpZ2h0EhAKDggDEgoKAxIBSwoDEgFOYhsKB3Byb2R1Y3QSEAoOCAYSCgoD"
    "EgFNCgMSAU5CBAoAEBE="
)


def peaks() -> dict[str, float]:
    """Multiply-accumulates a second (in 1e9) of a GEMM on all cores, in FP32 by NumPy's BLAS and in
    INT8 by ONNX Runtime; and bytes a second of a copy, read and written (in 1e9).

    Kernels that compute FP32 files in bfloat16 may pass the first.
    """
    left = np.random.default_rng(0).random((SIDE, SIDE), np.float32)
    product = np.empty_like(left)
    source = np.ones(COPY_BYTES, np.uint8)  # zeros would share one page that is in the cache
    target = np.ones_like(source)
    return {
        "gemm_gmacs": SIDE**3 / _fastest(lambda: np.matmul(left, left, out=product)) / 1e9,
        "int8_gmacs": SIDE**3 / _fastest(_int8_product()) / 1e9,
        "copy_gb_s": 2 * COPY_BYTES / _fastest(lambda: np.copyto(target, source)) / 1e9,
    }


def _int8_product() -> Callable[[], object]:
    session = onnxruntime.InferenceSession(MATMUL_INTEGER, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    left = rng.integers(0, 256, (SIDE, SIDE), np.uint8)
    right = rng.integers(-127, 128, (SIDE, SIDE), np.int8)
    return lambda: session.run(None, {"left": left, "right": right})


def _fastest(call: Callable[[], object]) -> float:
    best, end = np.inf, time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        begin = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - begin)
    return float(best)
