"""Which engine opens a model: the choice behind `device`, and nothing of it in silence."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Optional

from . import engines, zoo
from .backends import Backend, cuda, installed
from .errors import ArgumentError, BackendError

logger = logging.getLogger("gender_edge")

DEVICES = ("auto", "cpu", "onnxruntime", "openvino", "cuda", "tensorrt")


def open_backend(
    model: Optional[str], device: str, threads: Optional[int], build: bool, batch_size: int
) -> tuple[str, Backend]:
    """What runs a model on a device, after the model's name; the arguments are those of
    `Classifier`.

    Raises:
        ModelError: the model is missing, damaged, or of another task.
        ArgumentError: as `engine_of`; or `build` where there is no engine to build.
        BackendError: the device cannot be had.
    """
    source = zoo.default() if model is None else model
    chosen = engine_of(source, device)
    if build and (chosen != "tensorrt" or source.endswith(engines.SUFFIXES)):
        reason = engines.obstacle() if device == "auto" else None
        raise ArgumentError(
            f"build=True: there is no engine to build for {source!r} on device={device!r}"
            f"{f' ({reason})' if reason else ''}; leave build out"
        )
    # Imported here: engines take most of the import time, and only one of them is needed.
    if chosen == "tensorrt":
        from .backends.tensorrt import TensorRTBackend

        try:
            return source, TensorRTBackend(_engine(source, build))
        except engines.NoEngineError as error:
            if device != "auto":
                raise
            logger.warning("%s; until then this classifier does without TensorRT", error)
            chosen = _without_tensorrt()
    elif device == "auto" and chosen != "auto":
        _say_that_a_gpu_idles()
    if chosen == "openvino":
        from .backends.openvino import OpenVINOBackend

        return source, OpenVINOBackend(zoo.read(source), source, threads, often=(1, batch_size))
    from .backends import onnx

    if model is None and not onnx.int8_pays(onnx.provider_on(chosen)):
        source = zoo.default("fp32")
    return source, onnx.OnnxBackend(zoo.read(source), source, chosen, threads)


def _engine(source: str, build: bool) -> Path:
    """The engine file: the one that is named, one in the cache, or one built now."""
    if source.endswith(engines.SUFFIXES):
        return Path(source)
    try:
        return engines.find(source)
    except engines.NoEngineError:
        if not build:
            raise
    return engines.build_engine(source)


def _say_that_a_gpu_idles() -> None:
    """No fallback is silent: say why "auto" took the CPU of a machine with a GPU."""
    try:
        gpu = cuda.identify()["name"]
    except BackendError:
        return
    logger.warning(
        "%s is not used: %s, and this ONNX Runtime has no CUDA; see `gender-edge doctor`, or "
        "choose device='cpu'",
        gpu,
        engines.obstacle(),
    )


def engine_of(source: str, device: str) -> str:
    """What would open a model on a device: "tensorrt", "openvino", or what ONNX Runtime is asked
    for ("cpu", "cuda", or "auto": CUDA, else the CPU).

    Raises:
        ArgumentError: there is no such device, or it does not open such files.
    """
    check_device(device)
    if source.endswith(engines.SUFFIXES) and device not in ("auto", "tensorrt"):
        raise ArgumentError(
            f"{source}: a TensorRT engine, which device={device!r} does not open; leave device out "
            "or open the model that it was built from"
        )
    if source.endswith(engines.SUFFIXES) or (device == "auto" and engines.usable()):
        return "tensorrt"
    if device in ("auto", "cpu"):
        return _without_tensorrt(device)
    return "cpu" if device == "onnxruntime" else device


def check_device(device: str) -> None:
    """Raises ArgumentError for what is no device."""
    if device not in DEVICES:
        raise ArgumentError(f"device={device!r}: expected one of {', '.join(DEVICES)}")


def _without_tensorrt(device: str = "auto") -> str:
    openvino = installed.openvino()
    if device == "auto" and installed.onnxruntime_cuda() and (cuda.present() or not openvino):
        return "auto"  # of ONNX Runtime, which says so if it has to fall back
    return "openvino" if openvino else "cpu"
