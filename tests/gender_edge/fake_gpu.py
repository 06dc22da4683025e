"""A GPU on host memory: pycuda's driver, libcuda and TensorRT, as far as this package calls them.

What is enqueued on a stream happens when the stream is waited for, so that whoever reads too early
reads what was there before. The network answers with the mean of a face's pixels and its negative.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

LARGEST = 4
MODEL = "nano_gray_int8"  # the shipped one that its engine is of
FIRST_LOST = 700
NAMES = {2: b"CUDA_ERROR_OUT_OF_MEMORY", 700: b"CUDA_ERROR_ILLEGAL_ADDRESS", 1: b"CUDA_ERROR_ODD"}


class Error(Exception):
    pass


class OutOfMemoryError(Error):
    pass


def at(address: int, size: int) -> np.ndarray:
    """Host memory as bytes."""
    return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))


class Gpu:
    """The state of one GPU, and the three interfaces to it: `driver`, `library`, `tensorrt`."""

    def __init__(self, version: str = "10.3.0") -> None:
        self.version = version
        self.fails: dict[str, int] = {}  # call -> status; from FIRST_LOST on, for good
        self.lost = 0
        self.streams: dict[int, Stream] = {}
        self.memory: dict[int, np.ndarray] = {}
        self.graphs: dict[int, list[Callable[[], None]]] = {}
        self.launched = 0
        self.compiled: list[bytes] = []
        self.stacks = threading.local()
        self.driver, self.library = self._driver(), Library(self)
        self.tensorrt = tensorrt_of(self)

    def check(self, call: str) -> None:
        """Raise what pycuda raises, if this call shall fail."""
        status = self.status(call)
        if status == 2:
            raise OutOfMemoryError(f"{call} failed: out of memory")
        if status:
            raise Error(f"{call} failed: {NAMES[status].decode()}")

    def status(self, call: str) -> int:
        found = self.lost or self.fails.get(call, 0)
        if found >= FIRST_LOST:
            self.lost = found
        return found

    @property
    def stack(self) -> list[Any]:
        """pycuda's contexts of this thread."""
        if not hasattr(self.stacks, "contexts"):
            self.stacks.contexts = []
        return self.stacks.contexts

    def _driver(self) -> SimpleNamespace:
        gpu = self

        class Device:
            def __init__(self, index: int) -> None:
                gpu.check("cuDeviceGet")

            count = staticmethod(lambda: 1)
            name = staticmethod(lambda: "Fake GPU")
            compute_capability = staticmethod(lambda: (8, 6))
            total_memory = staticmethod(lambda: 1 << 30)

            def retain_primary_context(self) -> Context:
                gpu.check("cuDevicePrimaryCtxRetain")
                return Context()

        class Context:
            valid = True

            def push(self) -> None:
                gpu.check("cuCtxPushCurrent")
                gpu.stack.append(self)

            @staticmethod
            def pop() -> None:
                gpu.check("cuCtxPopCurrent")
                gpu.stack.pop()

            @staticmethod
            def synchronize() -> None:
                gpu.check("cuCtxSynchronize")

            def detach(self) -> None:
                if not self.valid:
                    raise Error("cannot detach from invalid context")
                self.valid = False
                self.get_current()

            @staticmethod
            def get_current() -> Any:
                while gpu.stack and not gpu.stack[-1].valid:
                    gpu.stack.pop()
                return gpu.stack[-1] if gpu.stack else None

        class Memory:
            def __init__(self, size: int) -> None:
                gpu.check("cuMemAlloc")
                block = np.full(size + 256, 0xCD, np.uint8)
                self.address = (block.ctypes.data + 255) // 256 * 256
                gpu.memory[self.address] = block

            def __int__(self) -> int:
                return self.address

            def free(self) -> None:
                assert gpu.stack, "freed outside of the context"
                del gpu.memory[self.address]

        def copy(to: int, source: int, size: int, stream: Stream) -> None:
            stream.add(lambda: np.copyto(at(to, size), at(source, size)))

        return SimpleNamespace(
            Error=Error,
            MemoryError=OutOfMemoryError,
            init=lambda: gpu.check("cuInit"),
            get_driver_version=lambda: 12080,
            Device=Device,
            Context=Context,
            Stream=lambda _: Stream(gpu),
            pagelocked_empty=lambda shape, dtype: np.full(shape, 77, dtype),
            mem_alloc=Memory,
            memcpy_htod=lambda to, a: np.copyto(at(int(to), a.nbytes), a.reshape(-1)),
            memcpy_htod_async=lambda to, a, s: copy(int(to), a.ctypes.data, a.nbytes, s),
            memcpy_dtoh_async=lambda a, source, s: copy(a.ctypes.data, int(source), a.nbytes, s),
        )


class Stream:
    """Work that waits to be done, or is being captured."""

    def __init__(self, gpu: Gpu) -> None:
        gpu.check("cuStreamCreate")
        self.gpu, self.work = gpu, list[Callable[[], None]]()
        self.captured: list[Callable[[], None]] | None = None
        self.handle = 0x1000 + len(gpu.streams)
        gpu.streams[self.handle] = self

    def add(self, step: Callable[[], None]) -> None:
        (self.work if self.captured is None else self.captured).append(step)

    def synchronize(self) -> None:
        self.gpu.check("cuStreamSynchronize")
        while self.work:
            self.work.pop(0)()


class Library:
    """libcuda by ctypes: every call returns a status."""

    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu

    def __getattr__(self, name: str) -> Callable[..., int]:
        def call(*arguments: Any) -> int:
            if name == "cuGetErrorName":
                arguments[1]._obj.value = NAMES.get(arguments[0].value)
                return 0
            status = self._gpu.status(name)
            if not status:
                vars(Library).get(f"_{name}", lambda *_: None)(self, *arguments)
            return status

        return call

    def _stream(self, handle: ctypes.c_void_p) -> Stream:
        return self._gpu.streams[handle.value or 0]

    def _cuDeviceGetName(self, name: Any, *_: Any) -> None:  # noqa: N802
        name.value = b"Fake GPU"

    def _cuDeviceGetCount(self, number: Any) -> None:  # noqa: N802
        number._obj.value = 1

    def _cuStreamBeginCapture_v2(self, handle: Any, _: Any) -> None:  # noqa: N802
        self._stream(handle).captured = []

    def _cuStreamEndCapture(self, handle: Any, graph: Any) -> None:  # noqa: N802
        stream = self._stream(handle)
        graph._obj.value = 1 + len(self._gpu.graphs)
        self._gpu.graphs[graph._obj.value], stream.captured = stream.captured or [], None

    def _cuGraphInstantiateWithFlags(self, made: Any, graph: Any, _: Any) -> None:  # noqa: N802
        made._obj.value = graph.value

    def _cuGraphLaunch(self, graph: Any, handle: Any) -> None:  # noqa: N802
        self._gpu.launched += 1
        for step in self._gpu.graphs[graph.value]:
            self._stream(handle).add(step)

    def _cuMemcpyDtoHAsync_v2(self, to: Any, source: Any, size: Any, handle: Any) -> None:  # noqa: N802
        self._stream(handle).add(
            lambda: np.copyto(at(to.value, size.value), at(source.value, size.value))
        )

    def _cuStreamSynchronize(self, handle: Any) -> None:  # noqa: N802
        self._stream(handle).synchronize()


def tensorrt_of(gpu: Gpu) -> SimpleNamespace:
    """TensorRT's module of a version: 10; 8.6, which lacks newer calls; or RTX (1)."""
    said: list[Any] = []
    legacy = gpu.version.startswith("8.")

    def error(text: str) -> bool:
        said[0].log("Severity.ERROR", text)
        return False

    class Context:
        def __init__(self) -> None:
            self.places: dict[str, int] = {}
            self.count, self.profile = 0, False

        def set_optimization_profile_async(self, index: int, stream: int) -> bool:
            if gpu.fails.get("profile"):
                error("profile 0 has been chosen by another context")
                raise RuntimeError("Error in set optimization profile async.")
            self.profile = index == 0 and stream in gpu.streams
            return self.profile

        def set_tensor_address(self, name: str, address: int) -> None:
            self.places[name] = address

        def set_input_shape(self, _: str, shape: tuple[int, ...]) -> bool:
            if not self.profile or shape[0] > LARGEST:
                return error("no profile, or not within it")
            self.count, self.row = shape[0], int(np.prod(shape[1:]))
            return True

        def execute_async_v3(self, stream: int) -> bool:
            if gpu.fails.get("enqueue"):
                return error("the scratch memory is missing")
            count, row = self.count, self.row  # what is set later does not count
            pixels, logits = self.places["images"], self.places["logits"]

            def compute() -> None:
                mean = at(pixels, count * row).reshape(count, row).mean(1) / 100
                answer = np.stack([mean, -mean], 1).astype(np.float32)
                at(logits, answer.nbytes)[:] = answer.reshape(-1).view(np.uint8)

            gpu.streams[stream].add(compute)
            return True

    class Newer(Context):
        def set_device_memory(self, address: int, size: int) -> None:
            assert address in gpu.memory and size == 512

    class RuntimeCache:
        def __init__(self) -> None:
            self.kernels: set[bytes] = set()

        def serialize(self) -> bytes | None:
            return None if gpu.fails.get("serialize") else b",".join(sorted(self.kernels))

        def deserialize(self, content: bytes) -> bool:
            self.kernels.update(content.split(b","))
            return content.startswith(b"kernel")

    class RuntimeConfig:
        """RTX's: its contexts compile what its cache does not have, for each batch size."""

        dynamic_shapes_kernel_specialization_strategy = b""
        create_runtime_cache = staticmethod(RuntimeCache)

        def set_execution_context_allocation_strategy(self, strategy: int) -> None:
            assert strategy == 1

        def set_runtime_cache(self, cache: RuntimeCache) -> None:
            self.cache = cache

    class Compiling(Newer):
        def __init__(self, config: RuntimeConfig) -> None:
            super().__init__()
            self.cache = config.cache
            self.kind = config.dynamic_shapes_kernel_specialization_strategy

        def execute_async_v3(self, stream: int) -> bool:
            kernel = b"kernel %s %d" % (self.kind, self.count)
            if kernel not in self.cache.kernels:
                gpu.compiled.append(kernel)
            self.cache.kernels.add(kernel)
            return super().execute_async_v3(stream)

    rtx = gpu.version.startswith("1.")

    class Engine:
        num_io_tensors = 2
        device_memory_size = device_memory_size_v2 = 512
        get_tensor_name = staticmethod(lambda i: ("logits", "images")[i])
        get_tensor_mode = staticmethod(lambda name: "in" if name == "images" else "out")
        create_runtime_config = staticmethod(RuntimeConfig)
        create_execution_context = staticmethod(lambda how: Compiling(how) if rtx else Newer())
        create_execution_context_without_device_memory = staticmethod(Context)

    class Runtime:
        def __init__(self, logger: Any) -> None:
            said[:] = [logger]

        def deserialize_cuda_engine(self, plan: bytes) -> Any:
            return Engine() if plan.startswith(b"plan") else error("magicTag failed") or None

    return SimpleNamespace(
        __name__="tensorrt_rtx" if rtx else "tensorrt",
        __version__=gpu.version,
        ILogger=type("ILogger", (), {"__init__": lambda self: None}),
        Runtime=Runtime,
        TensorIOMode=SimpleNamespace(INPUT="in"),
        IExecutionContext=Context if legacy else Newer,
        DynamicShapesKernelSpecializationStrategy=SimpleNamespace(EAGER=b"eager"),
        ExecutionContextAllocationStrategy=SimpleNamespace(USER_MANAGED=1),
    )
