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
# ONNX files of one node, a product of matrices (M, K) and (K, N): MatMul of float32, and
# MatMulInteger of uint8 with int8. Made by onnx.helper, which is not installed where this runs; a
# test makes them again.
MATMUL = base64.b64decode(
    "CAg6dQoeCgRsZWZ0CgVyaWdodBIHcHJvZHVjdCIGTWF0TXVsEgFnWhgKBGxlZnQSEAoOCAESCgoDEgFN"
    "CgMSAUtaGQoFcmlnaHQSEAoOCAESCgoDEgFLCgMSAU5iGwoHcHJvZHVjdBIQCg4IARIKCgMSAU0KAxIB"
    "TkIECgAQEQ=="
)
MATMUL_INTEGER = base64.b64decode(
    "CAg6fAolCgRsZWZ0CgVyaWdodBIHcHJvZHVjdCINTWF0TXVsSW50ZWdlchIBZ1oYCgRsZWZ0EhAKDggC"
    "EgoKAxIBTQoDEgFLWhkKBXJpZ2h0EhAKDggDEgoKAxIBSwoDEgFOYhsKB3Byb2R1Y3QSEAoOCAYSCgoD"
    "EgFNCgMSAU5CBAoAEBE="
)


def peaks(threads: int | None = None) -> dict[str, float]:
    """Multiply-accumulates a second (in 1e9) of a GEMM in FP32 and in INT8, by ONNX Runtime; and
    bytes a second of a copy, read and written (in 1e9).

    Kernels that compute FP32 files in bfloat16 may pass the first.

    Args:
        threads: of the products; None for all cores.
    """
    rng = np.random.default_rng(0)
    real = rng.random((SIDE, SIDE), np.float32)
    left = rng.integers(0, 256, (SIDE, SIDE), np.uint8)
    right = rng.integers(-127, 128, (SIDE, SIDE), np.int8)
    source = np.ones(COPY_BYTES, np.uint8)  # zeros would share one page that is in the cache
    target = np.ones_like(source)
    return {
        "gemm_gmacs": SIDE**3 / _fastest(_product(MATMUL, real, real, threads)) / 1e9,
        "int8_gmacs": SIDE**3 / _fastest(_product(MATMUL_INTEGER, left, right, threads)) / 1e9,
        "copy_gb_s": 2 * COPY_BYTES / _fastest(lambda: np.copyto(target, source)) / 1e9,
    }


def _product(
    model: bytes, left: np.ndarray, right: np.ndarray, threads: int | None
) -> Callable[[], object]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"left": left, "right": right})


def _fastest(call: Callable[[], object]) -> float:
    best, end = np.inf, time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        begin = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - begin)
    return float(best)
