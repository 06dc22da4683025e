"""ONNX to TensorRT engine on this machine, and the cache of engines built here.

An engine file is raw, so that trtexec, Triton and DeepStream load it; what it is stands in
`<engine>.json` beside it: the model's own metadata, and what it was built by, on and for.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import logging
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Callable, Optional, Union

from . import zoo
from .backends import cuda, tensorrt_api
from .backends.tensorrt_api import Target, TensorRT
from .errors import BackendError, ModelError
from .half import halve
from .spec import ModelSpec
from .symmetric import symmetric

logger = logging.getLogger("gender_edge")

FORMAT_VERSION = 2  # 2: several contexts share a profile (TensorRT 8.6)
CACHE_VARIABLE = "GENDER_EDGE_CACHE"


@dataclass(frozen=True)
class EngineInfo:
    """What stands beside an engine.

    Attributes:
        spec: the model's own metadata.
        onnx_sha256: of the file it was built from.
        engine_sha256: of the engine itself.
        tensorrt: module name and full version that built it, the only ones that load it.
        gpu, capability: what it was built on; None for one built ahead of time.
        target: what it was built for.
    """

    spec: ModelSpec
    onnx_sha256: str
    engine_sha256: str
    tensorrt: tuple[str, str]
    gpu: Optional[str]
    capability: Optional[str]
    target: Target

    def write(self, engine: Path) -> None:
        """Write it beside the engine."""
        content = {
            "format": FORMAT_VERSION,
            **asdict(self),
            "spec": json.loads(self.spec.to_json()),
        }
        _replace(sidecar(engine), json.dumps(content, indent=1).encode())

    @classmethod
    def read(cls, engine: Path) -> EngineInfo:
        """Read what stands beside an engine.

        Raises:
            ModelError: nothing does, or it is of another format.
        """
        path = sidecar(engine)
        rebuild = f"build the engine again with `gender-edge build NAME --output {engine}`"
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
            if raw.pop("format") != FORMAT_VERSION:
                raise ModelError(f"{path}: of another format; {rebuild}")
            target = raw.pop("target")
            target["capabilities"] = tuple(target["capabilities"])
            name, version = raw.pop("tensorrt")
            spec = ModelSpec.from_json(json.dumps(raw.pop("spec")), str(path))
            return cls(spec=spec, tensorrt=(name, version), target=Target(**target), **raw)
        except FileNotFoundError:
            raise ModelError(
                f"{path}: missing; an engine needs the file written beside it (labels, crop rule, "
                f"calibration): copy both, or {rebuild}"
            ) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelError(f"{path}: cannot be read ({error}); {rebuild}") from error


def sidecar(engine: Path) -> Path:
    """`<engine>.json`."""
    return engine.with_name(engine.name + ".json")


def cache_folder() -> Path:
    """Where engines built here are kept: $GENDER_EDGE_CACHE, else the user's cache folder."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "gender_edge"


def cache_path(onnx_sha256: str, name: str, api: TensorRT, gpu: str, target: Target) -> Path:
    """Where the engine of a model lies, for this TensorRT, GPU and target: one file for each."""
    options = json.dumps({"format": FORMAT_VERSION, **asdict(target)}, sort_keys=True)
    parts = [onnx_sha256, api.name, api.version, gpu, options]
    key = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
    return cache_folder() / "engines" / f"{_plain(Path(name).stem)}-{key}.engine"


def _plain(name: str) -> str:
    """A name as a file name."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name)


def cached() -> list[tuple[Path, EngineInfo]]:
    """Every engine in the cache that can say what it is."""
    found = []
    for path in sorted((cache_folder() / "engines").glob("*.engine")):
        with contextlib.suppress(ModelError):  # one damaged note must not hide the others
            found.append((path, EngineInfo.read(path)))
    return found


def misfit(info: EngineInfo, api: TensorRT, gpu: str, capability: str) -> Optional[str]:
    """Why an engine would not run with this TensorRT on this GPU; None if it should."""
    if info.tensorrt != (api.name, api.version):
        return f"built by {' '.join(info.tensorrt)}, found {api!r}"
    if info.gpu is None:  # ahead of time, with RTX
        targets = info.target.capabilities or tensorrt_api.RTX_PORTABLE
        return (
            None if capability in targets else f"built for {', '.join(targets)}, not {capability}"
        )
    if info.gpu != gpu and not info.target.portable:
        return f"built on {info.gpu}, found {gpu}"
    return None


def find(model: str) -> Path:
    """The cached engine of a model for this TensorRT and GPU, in the model's own precision.

    Of several, the one of the largest batch.

    Raises:
        ModelError: no such model.
        BackendError: no TensorRT or GPU, or no such engine: with the command that builds it.
    """
    content = zoo.read(model)
    digest, precision = hashlib.sha256(content).hexdigest(), spec_of(content, model).precision
    api, device = tensorrt_api.load(), cuda.open_device()
    fitting = [
        (info.target.max_batch, path)
        for path, info in cached()
        if (info.onnx_sha256, info.target.precision) == (digest, precision)
        and misfit(info, api, device.name, device.capability) is None
    ]
    if not fitting:
        raise BackendError(
            f"no engine of {model!r} for {api!r} on {device!r} in {cache_folder()}; build it with "
            f"`gender-edge build {model}`, open it with build=True, or choose device='cpu'"
        )
    return max(fitting)[1]


def usable() -> bool:
    """Whether TensorRT, pycuda and a GPU are here; imports nothing where one is not installed."""
    installed = [importlib.util.find_spec(n) is not None for n in ("tensorrt", "tensorrt_rtx")]
    if not any(installed) or importlib.util.find_spec("pycuda") is None:
        return False
    try:
        tensorrt_api.load()
        cuda.open_device()
    except BackendError as error:
        logger.info("TensorRT is installed but not used: %s", error)
        return False
    return True


def build_engine(
    model: Union[str, os.PathLike[str]],
    output: Optional[Union[str, os.PathLike[str]]] = None,
    *,
    max_batch: int = 64,
    opt_batch: Optional[int] = None,
    portable: bool = False,
    targets: tuple[str, ...] = (),
    precision: Optional[str] = None,
    progress: Optional[Callable[[str, int, int], None]] = None,
) -> Path:
    """Build a TensorRT engine from an ONNX model of this package.

    Args:
        model: shipped name or ONNX file.
        output: where to write it; None for the cache, where `Classifier` finds it. A cached
            engine that is there already is not built again.
        max_batch: the largest batch it will take.
        opt_batch: the batch it is tuned for; None for half of the largest, at least 1.
        portable: for other GPUs too, slower.
        targets: compute capabilities such as "8.6" to build for ahead of time, without a GPU
            (TensorRT-RTX only).
        precision: None for the model's own; "fp16" to compute an FP32 model in FP16.
        progress: called with a phase's name, its step and its number of steps.

    Returns:
        The engine's path; `<engine>.json` lies beside it.

    Raises:
        ModelError: no such model.
        BackendError: no TensorRT, no GPU where one is needed, or the build failed.
    """
    if max_batch < 1:
        raise BackendError(f"max_batch={max_batch}: expected at least 1")
    name = os.fspath(model)
    content = zoo.read(name)
    spec = _in_precision(spec_of(content, name), precision)
    api = tensorrt_api.load()
    target = Target(
        opt_batch=min(max_batch, opt_batch or max(1, max_batch // 2)),
        max_batch=max_batch,
        precision=spec.precision,
        portable=portable,
        capabilities=tuple(targets),
    )
    gpu, capability = _where(api, target)
    digest = hashlib.sha256(content).hexdigest()
    path = Path(output) if output else cache_path(digest, name, api, gpu or "", target)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path):
        if output is None and path.exists() and sidecar(path).exists():
            return path
        timing = path.parent / _plain(f"timing-{api.name}-{api.version}-{gpu}.cache")
        before = timing.read_bytes() if timing.exists() else b""
        network = symmetric(content) if spec.precision == "int8" else content
        if api.strongly_typed and spec.precision != "fp32":
            network = halve(network)
        plan, after = api.build(network, target, before, progress)
        if after:
            _replace(timing, after)
        EngineInfo(
            spec=spec,
            onnx_sha256=digest,
            engine_sha256=hashlib.sha256(plan).hexdigest(),
            tensorrt=(api.name, api.version),
            gpu=gpu,
            capability=capability,
            target=target,
        ).write(path)
        _replace(path, plan)
    return path


def spec_of(content: bytes, name: str) -> ModelSpec:
    """What a model says about itself.

    Raises:
        ModelError: it is damaged, or not one of this package.
    """
    from .backends.onnx import OnnxBackend  # the same checks as for running it

    backend = OnnxBackend(content, name, device="cpu", threads=1)
    spec = backend.spec
    backend.close()
    return spec


def _in_precision(spec: ModelSpec, wanted: Optional[str]) -> ModelSpec:
    if wanted is None or wanted == spec.precision:
        return spec
    if (spec.precision, wanted) != ("fp32", "fp16"):
        raise BackendError(
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


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Let one process build a file while others wait for it."""
    try:
        import fcntl
    except ImportError:  # Windows: builds may repeat, and the last whole file stays
        yield
        return
    with path.with_name(path.name + ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _replace(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.write_bytes(content)
    partial.replace(path)
