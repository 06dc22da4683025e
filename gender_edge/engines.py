"""ONNX to TensorRT engine on this machine, and the cache of engines built here."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
import os
import re
import shlex
from dataclasses import asdict, replace
from pathlib import Path
from typing import Callable, Optional, Union

from . import zoo
from .arguments import counted
from .backends import cuda, tensorrt_api
from .backends.tensorrt_api import Target, TensorRT
from .caching import cache_folder, locked, made, write_whole
from .engine_info import FORMAT_VERSION, EngineInfo, sidecar
from .errors import ArgumentError, BackendError, ModelError
from .half import halve
from .spec import ModelSpec
from .symmetric import symmetric

logger = logging.getLogger("gender_edge")

SUFFIXES = (".engine", ".plan")  # of files that are opened as engines


def cache_path(onnx_sha256: str, name: str, api: TensorRT, gpu: str, target: Target) -> Path:
    """Where the engine of a model lies, for this TensorRT, GPU and target: one file for each.

    `gpu` is its name and compute capability; empty for an engine built ahead of time.
    """
    options = json.dumps({"format": FORMAT_VERSION, **asdict(target)}, sort_keys=True)
    parts = [onnx_sha256, api.name, api.version, gpu, options]
    key = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
    return cache_folder() / "engines" / f"{_plain(Path(name).stem)}-{key}.engine"


def _plain(name: str) -> str:
    """A name as a file name."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name)


def cached() -> list[tuple[Path, Union[EngineInfo, ModelError]]]:
    """Every engine in the cache with what it is, or why that cannot be read."""
    found: list[tuple[Path, Union[EngineInfo, ModelError]]] = []
    for path in sorted((cache_folder() / "engines").glob("*.engine")):
        try:
            found.append((path, EngineInfo.read(path)))
        except ModelError as error:  # one damaged note must not hide the others
            found.append((path, error))
    return found


class NoEngineError(BackendError):
    """There is no engine of a model in the cache that fits."""


def find(model: str) -> Path:
    """The cached engine of a model for this TensorRT and GPU, in the model's own precision.

    Of several, the one of the largest batch.

    Raises:
        ModelError: no such model.
        BackendError: no TensorRT or GPU.
        NoEngineError: no such engine; says the command that builds it.
    """
    content = zoo.read(model)
    digest, own = hashlib.sha256(content).hexdigest(), spec_of(content, model).precision
    api, device = tensorrt_api.load(), cuda.open_device()
    fitting = [
        (info.target.max_batch, path)
        for path, info in cached()
        if isinstance(info, EngineInfo)
        and info.onnx_sha256 == digest
        and info.target.precision == own  # else, FP16 of an FP32 model, it is opened by its path
        and info.misfit(api, device.name, device.capability) is None
    ]
    if not fitting:
        raise NoEngineError(
            f"no engine of {model!r} for {api!r} on {device!r} in {cache_folder()}; build it with "
            f"`{shlex.join(('gender-edge', 'build', model))}`, open it with build=True, or choose "
            "device='cpu'"
        )
    return max(fitting)[1]


def usable() -> bool:
    """Whether TensorRT, pycuda and a GPU are here."""
    return obstacle() is None


def obstacle() -> Optional[str]:
    """Why TensorRT cannot run here; imports nothing where one part is not installed."""
    if not any(importlib.util.find_spec(name) for name in ("tensorrt", "tensorrt_rtx")):
        return "TensorRT is not installed"
    if importlib.util.find_spec("pycuda") is None:
        return "pycuda is not installed, which TensorRT needs here"
    try:
        tensorrt_api.load()
        cuda.open_device()
    except BackendError as error:
        return str(error)
    return None


def build_engine(
    model: Union[str, os.PathLike[str]],
    output: Optional[Union[str, os.PathLike[str]]] = None,
    *,
    max_batch: int = 64,
    portable: bool = False,
    targets: tuple[str, ...] = (),
    precision: Optional[str] = None,
    progress: Optional[Callable[[str, int, int], None]] = None,
) -> Path:
    """Build a TensorRT engine from an ONNX model of this package.

    Args:
        model: shipped name or ONNX file.
        output: where to write it, a file that ends in .engine or .plan; None for the cache, where
            `Classifier` finds it. A cached engine that is there already is not built again.
        max_batch: the largest batch it will take; it is tuned for half of that.
        portable: for other GPUs too, slower.
        targets: compute capabilities such as "8.6" to build for ahead of time, without a GPU
            (TensorRT-RTX only).
        precision: None for the model's own; "fp16" to compute an FP32 model in FP16.
        progress: called with a phase's name, its step and its number of steps.

    Returns:
        The engine's path; `<engine>.json` lies beside it.

    Raises:
        ModelError: no such model.
        ArgumentError: `max_batch` is no whole number from 1, `output` has another suffix, or the
            model cannot be built in that precision.
        BackendError: no TensorRT, no GPU where one is needed, or the build failed.
    """
    max_batch = counted("max_batch", max_batch)
    if output is not None and Path(output).suffix not in SUFFIXES:
        raise ArgumentError(
            f"{os.fspath(output)}: Classifier takes files that end in {' or '.join(SUFFIXES)} for "
            "engines; name it so"
        )
    name = os.fspath(model)
    content = zoo.read(name)
    spec = _in_precision(spec_of(content, name), precision)
    api = tensorrt_api.load()
    target = Target(
        opt_batch=max(1, max_batch // 2),
        max_batch=max_batch,
        precision=spec.precision,
        portable=portable,
        capabilities=tuple(targets),
    )
    gpu, capability = _where(api, target)
    digest = hashlib.sha256(content).hexdigest()
    where = f"{gpu} {capability}" if gpu else ""
    path = Path(output) if output else cache_path(digest, name, api, where, target)
    made(path.parent)
    with locked(path):
        if output is None and path.exists() and sidecar(path).exists():
            return path
        network = _network(content, spec.precision, api)
        if api.is_rtx and capability is not None and capability not in tensorrt_api.RTX_TARGETS:
            plan = _for_unlisted(api, gpu, capability, network, target, progress)
        else:
            plan = _timed(api, gpu, network, target, progress)
        EngineInfo(
            spec=spec,
            model=name if name in zoo.names() else str(Path(name).resolve()),
            onnx_sha256=digest,
            engine_sha256=hashlib.sha256(plan).hexdigest(),
            tensorrt=(api.name, api.version),
            gpu=gpu,
            capability=capability,
            target=target,
        ).write(path)
        write_whole(path, plan)
    return path


def _network(content: bytes, precision: str, api: TensorRT) -> bytes:
    """A model in the form that TensorRT computes in that precision."""
    network = symmetric(content) if precision == "int8" else content
    return halve(network) if api.strongly_typed and precision != "fp32" else network


def _for_unlisted(
    api: TensorRT,
    gpu: Optional[str],
    capability: str,
    network: bytes,
    target: Target,
    progress: Optional[Callable[[str, int, int], None]],
) -> bytes:
    """For a GPU that RTX does not list: of the kind for any newer GPU, and that for the GPU which
    is here, the first that it loads.

    Raises:
        BackendError: it loads neither.
    """
    listed, reasons = ", ".join(tensorrt_api.RTX_TARGETS), []
    logger.warning("%r builds for %s, not for %s: what loads is taken", api, listed, capability)
    for kind in (replace(target, portable=True), target):
        try:
            plan = _timed(api, gpu, network, kind, progress)
        except BackendError as error:
            reasons.append(str(error))
            continue
        with cuda.open_device().current():
            runtime, engine = api.deserialize(plan)
            loads = engine is not None
            del engine, runtime  # in this order, and inside the context
        if loads:
            return plan
        reasons.append(api.reason())
    raise BackendError(
        f"{api!r} builds for {listed}; for {gpu} ({capability}) it built nothing that it loads: "
        f"{'; '.join(reasons)}; use tensorrt, or an ONNX model"
    )


def _timed(
    api: TensorRT,
    gpu: Optional[str],
    network: bytes,
    target: Target,
    progress: Optional[Callable[[str, int, int], None]],
) -> bytes:
    """Build, with what earlier builds on this GPU measured; one build at a time adds to that."""
    timing = made(cache_folder()) / _plain(f"timing-{api.name}-{api.version}-{gpu}.cache")
    with locked(timing):
        before = timing.read_bytes() if timing.exists() else b""
        plan, after = api.build(network, target, before, progress)
        if after:
            write_whole(timing, after)
    return plan


def spec_of(content: bytes, name: str) -> ModelSpec:
    """What a model says about itself.

    Raises:
        ModelError: it is damaged, or not one of this package.
        BackendError: there is too little memory for it.
    """
    from .backends import onnx  # here: it is missing where only engines are run

    return ModelSpec.of_model(*onnx.described(onnx.open_session(content, name, threads=1)), name)


def _in_precision(spec: ModelSpec, wanted: Optional[str]) -> ModelSpec:
    if wanted is None or wanted == spec.precision:
        return spec
    if (spec.precision, wanted) != ("fp32", "fp16"):
        raise ArgumentError(
            f"{spec.name} is {spec.precision} and cannot be built in {wanted}; only FP32 models "
            "can be built in another precision, fp16"
        )
    return replace(spec, precision=wanted)


def _where(api: TensorRT, target: Target) -> tuple[Optional[str], Optional[str]]:
    """Name and capability of the GPU that the build happens on; (None, None) ahead of time."""
    if api.is_rtx and (target.capabilities or target.portable):
        return None, None
    try:
        device = cuda.open_device()
    except BackendError as error:
        if api.is_rtx:
            raise BackendError(
                f"{error}; without a GPU name the compute capability to build for, as in "
                "`gender-edge build NAME --target 8.6`"
            ) from error
        raise
    return device.name, device.capability
