"""ONNX Runtime: the default on anything with a CPU, and on GPUs that have its CUDA provider."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Optional

import numpy as np

from ..errors import BackendError, ModelError
from ..spec import METADATA_KEY, ModelSpec
from . import cuda, installed

try:
    import onnxruntime

    onnxruntime.InferenceSession  # noqa: B018  (a folder of that name is a module, an empty one)
except (ImportError, AttributeError) as error:
    raise BackendError(
        f"ONNX Runtime is not installed, or not whole ({error}); remove onnxruntime and "
        "onnxruntime-gpu, then install one of them: pip install onnxruntime"
    ) from error

logger = logging.getLogger("gender_edge")

INT8_FUSED_SINCE = (1, 21)  # before, a bias without Q/DQ kept convolutions from being fused
CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


class OnnxBackend:
    """One ONNX Runtime session. See `Backend` for its members."""

    def __init__(
        self, model: bytes, source: str, device: str = "cpu", threads: Optional[int] = None
    ) -> None:
        """Open a model.

        Args:
            model: content of an ONNX file.
            source: what to call it in errors.
            device: "cpu", "cuda" (raises where it is not to be had) or "auto" (CUDA;
                where it is not to be had the CPU, with a warning; `provider` says which).
            threads: of the CPU provider; None leaves it to ONNX Runtime (all cores).

        Raises:
            ModelError: not an ONNX file, damaged, or not a model of this package.
            BackendError: `device` or memory cannot be had.
        """
        wanted = [CPU] if device == "cpu" else [CUDA, CPU]
        if CUDA in wanted and CUDA not in providers():
            _refuse_or_warn(
                device,
                f"this ONNX Runtime has {', '.join(providers())} only; {_packages()}; pip install "
                "onnxruntime-gpu",
            )
            wanted = [CPU]
        self._session: Optional[onnxruntime.InferenceSession] = open_session(
            model, source, wanted, threads
        )
        self.provider = str(self._session.get_providers()[0])
        if CUDA in wanted and self.provider != CUDA:  # dropped, and only logged (onnxruntime#23372)
            _refuse_or_warn(
                device,
                f"{source}: CUDA was asked for and ONNX Runtime took {self.provider}; check the "
                "driver and the CUDA libraries",
            )
        self.name = f"onnxruntime {onnxruntime.__version__}"
        self.spec = ModelSpec.of_model(*described(self._session), source)
        if self.spec.precision == "int8" and not int8_pays(self.provider):
            logger.warning(
                "%s: %s (%s) computes INT8 in float, slower than FP32; take the FP32 model, or "
                "TensorRT on a GPU, or on the CPU ONNX Runtime %d.%d or newer",
                source,
                self.name,
                self.provider,
                *INT8_FUSED_SINCE,
            )
        self._input = self._session.get_inputs()[0].name

    def run(self, batch: np.ndarray) -> np.ndarray:
        """uint8 (N, S, S, 3) to logits float32 (N, 2); ONNX Runtime sessions are thread-safe."""
        session = self._session
        if session is None:
            raise BackendError("this classifier was closed; open a new one")
        try:
            logits: np.ndarray = session.run(None, {self._input: batch})[0]
        except Exception as error:  # ONNX Runtime's own classes have no common public base
            raise BackendError(f"ONNX Runtime failed on {batch.shape}: {error}") from error
        return logits

    def close(self) -> None:
        """Free the session."""
        self._session = None


def providers() -> list[str]:
    """The providers that this ONNX Runtime has."""
    return [str(name) for name in onnxruntime.get_available_providers()]


def provider_on(device: str) -> str:
    """What would compute on "cpu", "cuda" or "auto": CUDA where there is a GPU for it."""
    return CUDA if device != "cpu" and CUDA in providers() and cuda.present() else CPU


def _packages() -> str:
    found = [n for n in installed.ONNXRUNTIME if installed.version(n)]
    unnamed = f"neither {' nor '.join(installed.ONNXRUNTIME)} by name"
    return installed.conflict() or f"installed: {', '.join(found) or unnamed}"


def int8_pays(provider: str = CPU) -> bool:
    """Whether this ONNX Runtime computes our INT8 files in INT8, which is what makes them fast.

    Its CUDA provider has no kernels for quantised convolutions (onnxruntime#12229, #24807).
    """
    if provider != CPU:
        return False
    version = tuple(int(part) for part in onnxruntime.__version__.split(".")[:2])
    return version >= INT8_FUSED_SINCE


def _refuse_or_warn(device: str, reason: str) -> None:
    """CUDA is not to be had: never the CPU in silence."""
    if device == "cuda":
        raise BackendError(f"device='cuda': {reason}, or use device='cpu'")
    logger.warning("the CPU is used: %s, or choose device='cpu'", reason)


def open_session(
    model: bytes, source: str, providers: Sequence[str] = (CPU,), threads: Optional[int] = None
) -> onnxruntime.InferenceSession:
    """An ONNX file's content as a session, whose threads sleep between runs.

    ONNX Runtime lets them spin while they wait for the next run: thirty faces a second would keep a
    core busy all the time, and models that take turns would slow each other.

    Raises:
        ModelError: not an ONNX file, or damaged.
        BackendError: there is too little memory for it, or there are too few threads.
    """
    try:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # its warnings are about its own graph rewrites
        options.add_session_config_entry("session.force_spinning_stop", "1")  # since 1.12
        if threads is not None:
            options.intra_op_num_threads = threads
        return onnxruntime.InferenceSession(model, options, providers=list(providers))
    except Exception as error:  # ONNX Runtime's own classes have no common public base
        if _starved(error):
            raise BackendError(
                f"{source}: ONNX Runtime gets too little memory, or too few threads, to open it "
                f"({error}); free some, or take a smaller model of `gender-edge models`"
            ) from error
        raise ModelError(
            f"{source}: ONNX Runtime cannot open it, it is damaged or not an ONNX model ({error}); "
            "fetch or export it again"
        ) from error


def _starved(error: Exception) -> bool:
    """Whether memory or threads were refused, in the words of ONNX Runtime's C++."""
    texts = ("bad_alloc", "Failed to allocate memory", "pthread_create failed")
    return isinstance(error, MemoryError) or any(text in str(error) for text in texts)


def described(session: onnxruntime.InferenceSession) -> tuple[Optional[str], str, list[Any]]:
    """What a session's model says of itself, as `ModelSpec.of_model` takes it: metadata, then type
    and shape of the input.
    """
    text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    if not session.get_inputs():
        return text, "none", []
    found = session.get_inputs()[0]
    return text, found.type.replace("tensor(uint8)", "u8"), found.shape
