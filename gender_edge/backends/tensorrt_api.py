"""TensorRT 8.6 to 11 and TensorRT-RTX: every difference between them is in this file.

What is called here exists in all of them: the tensor-name API (since 8.5). What came or went is
asked for by name: EXPLICIT_BATCH (gone in 11), BuilderFlag.FP16 and INT8 (gone in 11, where
precision lives in the graph), progress monitors (since 9), compute-capability lists (RTX).
"""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Callable, Optional

from ..errors import BackendError

logger = logging.getLogger("gender_edge")

STRONGLY_TYPED_SINCE = (10, 12)  # before, parts of a strongly typed network were left out
KEPT_MESSAGES = 50
RTX_TARGETS = ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")
RTX_PORTABLE = RTX_TARGETS[1:]  # what it builds for by default: Ampere and newer


@dataclass(frozen=True)
class Target:
    """What an engine is built for.

    Attributes:
        opt_batch, max_batch: of the dynamic batch's profile, which begins at 1.
        precision: of the ONNX file: "int8", "fp16" or "fp32"; where the graph alone does not
            decide (before 10.12), which builder flags are set.
        portable: runs on other GPUs too (Ampere and newer), slower.
        capabilities: with RTX, compute capabilities to build for ahead of time; empty for the
            GPU that is here.
    """

    opt_batch: int = 32
    max_batch: int = 64
    precision: str = "int8"
    portable: bool = False
    capabilities: tuple[str, ...] = ()


class TensorRT:
    """An imported TensorRT module of any supported version, and what it last said."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.name = str(module.__name__)
        self.version = str(module.__version__)
        self.is_rtx = self.name == "tensorrt_rtx"
        self.messages: deque[tuple[str, str]] = deque(maxlen=KEPT_MESSAGES)
        self.descriptions: deque[str] = deque(maxlen=1)
        self.logger = _make_logger(module, self.messages, self.descriptions)

    def __repr__(self) -> str:
        return f"{self.name} {self.version}"

    @property
    def strongly_typed(self) -> bool:
        """Whether precision is taken from the graph and nowhere else."""
        numbers = tuple(int(v) for v in self.version.split(".")[:2])
        return self.is_rtx or numbers >= STRONGLY_TYPED_SINCE

    def reason(self) -> str:
        """The last errors that it logged: it returns None and tells why only here."""
        errors = [text for severity, text in self.messages if severity == "ERROR"]
        return "; ".join(errors[-2:]) or "it gave no reason"

    def layers(self) -> list[str]:
        """What the last build said of each layer (kind, tensors, types), as TensorRT words it."""
        return [part for text in self.descriptions for part in text.split("\nName: ")[1:]]

    def build(
        self,
        onnx: bytes,
        target: Target,
        timing_cache: bytes = b"",
        progress: Optional[Callable[[str, int, int], None]] = None,
    ) -> tuple[bytes, bytes]:
        """ONNX to a serialised engine.

        Args:
            onnx: content of the file; one input with a dynamic first axis.
            timing_cache: what an earlier build returned, to save measuring again.
            progress: called with a phase's name, its step and its number of steps.

        Returns:
            The engine, and the timing cache (empty where there is none).

        Raises:
            BackendError: the network cannot be parsed or built, with TensorRT's own reason.
        """
        self.messages.clear()
        trt = self.module
        builder = trt.Builder(self.logger)
        network = builder.create_network(self._network_flags())
        parser = trt.OnnxParser(network, self.logger)
        if not parser.parse(onnx):
            reasons = "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors))
            raise BackendError(f"{self!r} cannot parse this network: {reasons}")
        config = builder.create_builder_config()
        self._configure(config, builder, network, target, progress)
        cache = self._timing_cache(config, timing_cache)
        plan = builder.build_serialized_network(network, config)
        if plan is None:
            raise BackendError(f"{self!r} cannot build this engine: {self.reason()}")
        return bytes(plan), _content(cache)

    def _network_flags(self) -> int:
        flags = self.module.NetworkDefinitionCreationFlag
        wanted = 0
        if hasattr(flags, "EXPLICIT_BATCH"):
            wanted |= 1 << int(flags.EXPLICIT_BATCH)
        if self.strongly_typed and hasattr(flags, "STRONGLY_TYPED"):
            wanted |= 1 << int(flags.STRONGLY_TYPED)
        return wanted

    def _configure(
        self,
        config: Any,
        builder: Any,
        network: Any,
        target: Target,
        progress: Optional[Callable[[str, int, int], None]],
    ) -> None:
        trt = self.module
        images = network.get_input(0)
        side = tuple(images.shape)[1:]
        profile = builder.create_optimization_profile()
        shapes = [(n, *side) for n in (1, target.opt_batch, target.max_batch)]
        profile.set_shape(images.name, *shapes)
        config.add_optimization_profile(profile)
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
        if not self.strongly_typed:
            for flag in {"int8": ("INT8", "FP16"), "fp16": ("FP16",)}.get(target.precision, ()):
                config.set_flag(getattr(trt.BuilderFlag, flag))
        if hasattr(
            trt.BuilderFlag, "REQUIRE_USER_ALLOCATION"
        ):  # RTX: so that graphs can be captured
            config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)
        sharing = getattr(getattr(trt, "PreviewFeature", None), "PROFILE_SHARING_0806", None)
        if sharing is not None:  # 8.6: else a profile serves one context; since 10 it always does
            config.set_preview_feature(sharing, True)
        if hasattr(trt.TacticSource, "CUDNN"):  # 8.6: cuDNN and cuBLAS may be absent; not needed
            kept = ("EDGE_MASK_CONVOLUTIONS", "JIT_CONVOLUTIONS")
            sources = [getattr(trt.TacticSource, name) for name in kept]
            config.set_tactic_sources(sum(1 << int(source) for source in sources))
        if progress is not None and hasattr(trt, "IProgressMonitor"):
            config.progress_monitor = _make_monitor(trt, progress)
        self._aim(config, target)

    def _aim(self, config: Any, target: Target) -> None:
        """Say for which GPUs: this one, a list (RTX), or any of a family."""
        trt = self.module
        if not self.is_rtx:
            if target.capabilities:
                raise BackendError(
                    f"{self!r} builds for the GPU that is here only; build on the target itself, "
                    "or ahead of time with tensorrt-rtx"
                )
            if target.portable:
                config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
            return
        unknown = set(target.capabilities) - set(RTX_TARGETS)
        if unknown:
            raise BackendError(
                f"{self!r} has no target {', '.join(sorted(unknown))}; it has "
                f"{', '.join(RTX_TARGETS)}"
            )
        names = ["SM" + capability.replace(".", "") for capability in target.capabilities]
        if not names and not target.portable:  # none at all is the portable kind
            names = ["CURRENT"]
        config.num_compute_capabilities = len(names)
        for number, name in enumerate(names):
            if not config.set_compute_capability(getattr(trt.ComputeCapability, name), number):
                raise BackendError(
                    f"{self!r} does not build for {name} ({self.reason()}); name a target it has "
                    f"({', '.join(RTX_TARGETS)}), or build a portable engine"
                )

    def _timing_cache(self, config: Any, content: bytes) -> Any:
        """None with RTX: it compiles for a GPU when it meets one, and times nothing before."""
        if self.is_rtx:
            return None
        for saved in (content, b""):  # one that is damaged, or of another driver, begins anew
            cache = config.create_timing_cache(saved)
            if cache is not None and config.set_timing_cache(cache, ignore_mismatch=False):
                return cache
        return None

    def deserialize(self, plan: bytes) -> tuple[Any, Any]:
        """A runtime and the engine in it; the engine is None if it refuses (`reason` says why)."""
        self.messages.clear()
        runtime = self.module.Runtime(self.logger)
        return runtime, runtime.deserialize_cuda_engine(plan)


class Contexts:
    """Makes the execution contexts of an engine, which compute in memory of the caller's.

    Attributes:
        api: whose contexts they are.
        scratch_size: bytes of device memory that a context computes in.
    """

    def __init__(self, api: TensorRT, engine: Any, compiled: bytes = b"") -> None:
        """Prepare for an engine; `compiled` is what `compiled()` returned in an earlier process."""
        self.api, self._engine = api, engine
        trt = api.module
        # Since 10.1; the older calls are gone in 11.
        self._newer = hasattr(trt.IExecutionContext, "set_device_memory")
        name = "device_memory_size_v2" if self._newer else "device_memory_size"
        self.scratch_size = int(getattr(engine, name))
        strategy: Any = None
        if self._newer:
            strategy = trt.ExecutionContextAllocationStrategy.USER_MANAGED
        self._compiled: Any = None
        self._how = self._runtime_config(strategy, compiled) if api.is_rtx else strategy

    def _runtime_config(self, strategy: Any, compiled: bytes) -> Any:
        """RTX compiles for the GPU it meets, once for all contexts: EAGER, before a batch size runs
        for the first time.

        LAZY, it begins with fallback kernels, which a graph would then keep, and compiles in
        threads of its own; those may want to log, which takes Python's lock, while a destructor
        that holds it waits for them.
        """
        config = self._engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(strategy)
        kinds = self.api.module.DynamicShapesKernelSpecializationStrategy
        config.dynamic_shapes_kernel_specialization_strategy = kinds.EAGER
        self._compiled = config.create_runtime_cache()
        if compiled and not self._compiled.deserialize(compiled):
            logger.info("%r compiles anew: what was kept is not for it", self.api)
        config.set_runtime_cache(self._compiled)
        return config

    def compiled(self) -> bytes:
        """What RTX compiled for this GPU, or was given; empty with others."""
        return _content(self._compiled)

    def make(self, scratch: int, stream: int) -> Any:
        """An execution context that computes at this device address.

        Args:
            scratch: address of `scratch_size` bytes.
            stream: on which it is made ready: wait for it before computing on another.

        Raises:
            BackendError: TensorRT gives none, with its own reason.
        """
        api = self.api
        api.messages.clear()
        if self._how is not None:
            context = self._engine.create_execution_context(self._how)
        else:
            context = self._engine.create_execution_context_without_device_memory()
        if context is None:
            raise BackendError(f"{api!r} gives no execution context: {api.reason()}")
        if self._newer:
            context.set_device_memory(scratch, self.scratch_size)
        else:
            context.device_memory = scratch
        # 8.6 gives a profile unasked to the first context only.
        try:
            shared = context.set_optimization_profile_async(0, stream)
        except RuntimeError:  # how its Python says no
            shared = False
        if not shared:
            raise BackendError(f"{api!r} shares no profile between contexts: {api.reason()}")
        if hasattr(context, "nvtx_verbosity"):  # built in detail, which would slow every launch
            context.nvtx_verbosity = api.module.ProfilingVerbosity.NONE
        return context


def _content(cache: Any) -> bytes:
    """Of a cache of TensorRT's, which only saves time: nothing where there is none, or where it
    cannot be written.
    """
    content = None if cache is None else cache.serialize()
    return b"" if content is None else bytes(content)


@lru_cache(maxsize=1)  # one logger per process: TensorRT keeps the first that it is given
def load() -> TensorRT:
    """Import `tensorrt`, else `tensorrt_rtx`.

    Raises:
        BackendError: neither can be imported.
    """
    reasons = []
    for name in ("tensorrt", "tensorrt_rtx"):
        try:
            module = __import__(name)
            if not hasattr(module, "Builder") and not hasattr(module, "Runtime"):
                raise ImportError("it is a stub without libraries")
        except (ImportError, OSError, RuntimeError) as error:  # the wheels raise all three
            reasons.append(f"{name}: {error}")
        else:
            return TensorRT(module)
    raise BackendError(
        f"TensorRT cannot be imported ({'; '.join(reasons)}); install tensorrt (JetPack has it) or "
        "tensorrt-rtx-cu13, or use an ONNX model"
    )


def _make_logger(trt: Any, messages: deque[tuple[str, str]], descriptions: deque[str]) -> Any:
    class Log(trt.ILogger):  # type: ignore[misc]
        """Keeps what TensorRT says, because it is the only place where it gives reasons."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, text: str) -> None:
            name = str(severity).rsplit(".", 1)[-1].replace("INTERNAL_", "")
            if name in ("ERROR", "WARNING"):
                messages.append((name, text))
            elif text.startswith("Layers:"):  # printed by a build at detailed verbosity
                descriptions.append(text)
            logger.debug("tensorrt %s: %s", name.lower(), text)

    return Log()


def _make_monitor(trt: Any, progress: Callable[[str, int, int], None]) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        """Passes the outermost phase's steps on."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.outermost: tuple[str, int] = ("", 0)

        def phase_start(self, name: str, parent: Optional[str], steps: int) -> None:
            if not parent:
                self.outermost = (name, steps)
                progress(name, 0, steps)

        def step_complete(self, name: str, step: int) -> bool:
            if name == self.outermost[0]:
                progress(name, step + 1, self.outermost[1])
            return True

        def phase_finish(self, name: str) -> None:
            if name == self.outermost[0]:
                progress(name, self.outermost[1], self.outermost[1])

    return Monitor()
