"""The CUDA driver, through pycuda: device, context, memory, streams, events; graphs by ctypes.

The device's primary context is retained, the one that PyTorch and CuPy live in too, and made
current only inside `with device.current():`, in whichever thread; `pycuda.autoinit` would make a
context of its own. pycuda has no CUDA graphs, so those few driver calls are made directly.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator
from functools import cache, lru_cache
from typing import Any

import numpy as np

from ..errors import BackendError

_CAPABILITY = (75, 76)  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR
_DEVICE_ORDINAL = 9  # CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
_RELAXED_CAPTURE = 2  # CU_STREAM_CAPTURE_MODE_RELAXED: other threads may go on allocating
_OUT_OF_MEMORY = 2  # CUDA_ERROR_OUT_OF_MEMORY
# Errors after which, says the driver's manual, a process can only be ended: deinitialised, ECC, an
# illegal address, a timeout, a destroyed context, an assertion, and what else stops a kernel.
_LOST = frozenset({4, 214, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719})
_ADVICE_MEMORY = "use a smaller batch, fewer streams or a smaller model"
_ADVICE_LOST = "nothing runs on this GPU any more in this process: start it again"
_ADVICE = "open the model again, or see nvidia-smi"


@lru_cache(maxsize=1)
def _driver() -> Any:
    """Pycuda's driver module.

    Raises:
        BackendError: no pycuda, or no driver.
    """
    try:
        import pycuda.driver as driver
    except ImportError as error:
        if "libcuda" in str(error):
            raise _no_driver(error) from error
        raise BackendError(
            f"pycuda cannot be imported ({error}); pip install pycuda where CUDA's compiler is, or "
            "use an ONNX model"
        ) from error
    return driver


def _no_driver(error: Exception) -> BackendError:
    return BackendError(
        f"there is no NVIDIA driver here ({error}); install it, or use an ONNX model on the CPU"
    )


@cache  # for the process: pycuda cannot give a primary context back cleanly
def open_device() -> Device:
    """The first GPU.

    Raises:
        BackendError: no pycuda, no driver, no GPU, or one that does not start.
    """
    driver = _driver()
    try:
        driver.init()
        if not driver.Device.count():
            raise BackendError("no GPU was found; see nvidia-smi")
        return Device(driver, 0)
    except driver.Error as error:
        raise BackendError(f"GPU 0 does not start ({error}); see nvidia-smi") from error


class Device:
    """One GPU and its primary context."""

    def __init__(self, driver: Any, index: int) -> None:
        self.driver, self.index = driver, index
        device = driver.Device(index)
        self.name = str(device.name())
        self.capability = ".".join(str(v) for v in device.compute_capability())
        self.memory = int(device.total_memory())
        self.driver_version = _version(driver.get_driver_version())
        self._context = device.retain_primary_context()
        # Never given back: when the interpreter ends, the driver may be gone before pycuda is.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._context))
        self.error = driver.Error

    def __repr__(self) -> str:
        return f"{self.name} (compute capability {self.capability})"

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        """Make this device's context current in this thread.

        Raises:
            BackendError: what the driver raised inside, in words.
        """
        try:
            self._context.push()
        except self.error as error:
            self._forget()
            raise BackendError(
                f"{self!r}: its context is lost ({error}); {_ADVICE_LOST}"
            ) from error
        try:
            yield
        except self.driver.MemoryError as error:
            raise BackendError(f"{self!r}: out of memory ({error}); {_ADVICE_MEMORY}") from error
        except self.error as error:
            still = _library().cuCtxSynchronize()  # pycuda's error has no number: ask once more
            raise BackendError(f"{self!r} failed ({error}); {_advice(still)}") from error
        finally:
            self._pop()

    def _pop(self) -> None:
        """Undo `push`, also when the context is lost.

        pycuda keeps what cannot be popped, and aborts the process when the thread ends; it forgets
        contexts that were detached, in every thread where it is asked for the current one.
        """
        try:
            self._context.pop()
        except self.error:
            self._forget()
            self.driver.Context.get_current()

    def _forget(self) -> None:
        """Detach from a lost context: then what lived in it asks for it no more when it is freed,
        which would end the process.
        """
        with contextlib.suppress(self.error):  # another thread may have been first
            self._context.detach()

    # What follows is called inside `current()`.

    def stream(self) -> Any:
        """A stream that does not wait for the default one."""
        return self.driver.Stream(1)  # CU_STREAM_NON_BLOCKING

    def pinned(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """Page-locked host memory, which copies asynchronously."""
        return self.driver.pagelocked_empty(shape, dtype)

    def allocate(self, size: int) -> Any:
        """Device memory of `size` bytes; `int()` of it is its address, `free()` gives it back."""
        return self.driver.mem_alloc(size)

    def upload(self, target: Any, source: np.ndarray, stream: Any) -> None:
        """Start copying pinned host memory to the device."""
        self.driver.memcpy_htod_async(target, source, stream)

    def download(self, target: np.ndarray, source: Any, stream: Any) -> None:
        """Start copying device memory to pinned host memory."""
        self.driver.memcpy_dtoh_async(target, source, stream)

    def free_memory(self) -> int:
        """Bytes of device memory that nobody has."""
        return int(self.driver.mem_get_info()[0])


def count() -> int:
    """How many GPUs there are, asked as in `identify`.

    Raises:
        BackendError: no driver, or it does not start.
    """
    number = ctypes.c_int()
    _call("cuInit", ctypes.c_uint(0))
    _call("cuDeviceGetCount", ctypes.byref(number))
    return number.value


def present() -> bool:
    """Whether there is a GPU whose driver starts."""
    try:
        return count() > 0
    except BackendError:
        return False


def identify(index: int = 0) -> dict[str, str]:
    """A GPU's name, its compute capability, and the CUDA version of its driver.

    Asked of the driver alone: it takes neither pycuda nor a context.

    Raises:
        BackendError: there is no such GPU.
    """
    name, device, number = ctypes.create_string_buffer(256), ctypes.c_int(), ctypes.c_int()
    capability = []
    _call("cuInit", ctypes.c_uint(0))
    _call("cuDeviceGet", ctypes.byref(device), ctypes.c_int(index))
    _call("cuDeviceGetName", name, ctypes.c_int(len(name)), device)
    for attribute in _CAPABILITY:
        _call("cuDeviceGetAttribute", ctypes.byref(number), ctypes.c_int(attribute), device)
        capability.append(str(number.value))
    _call("cuDriverGetVersion", ctypes.byref(number))
    return {
        "name": name.value.decode(),
        "compute_capability": ".".join(capability),
        "driver_cuda": _version(number.value),
    }


def _version(number: int) -> str:
    """As the driver tells it, 12080, and as it is written, 12.8."""
    return f"{number // 1000}.{number % 1000 // 10}"


def index_of(address: int) -> int:
    """The number of the GPU on which an address lies.

    Raises:
        BackendError: the driver knows no such memory.
    """
    number = ctypes.c_int()
    kind, place = ctypes.c_int(_DEVICE_ORDINAL), ctypes.c_uint64(address)
    _call("cuPointerGetAttribute", ctypes.byref(number), kind, place)
    return number.value


def download_on(stream: int, target: np.ndarray, address: int) -> None:
    """Start copying device memory to pinned host memory on somebody else's stream.

    Raises:
        BackendError: the driver refuses.
    """
    handle, size = ctypes.c_void_p(stream), ctypes.c_size_t(target.nbytes)
    host = ctypes.c_void_p(target.ctypes.data)
    _call("cuMemcpyDtoHAsync_v2", host, ctypes.c_uint64(address), size, handle)


def wait_for(stream: int) -> None:
    """Wait for everything on somebody else's stream.

    Raises:
        BackendError: work on it failed.
    """
    _call("cuStreamSynchronize", ctypes.c_void_p(stream))


class Graph:
    """A captured piece of a stream's work, launched as one."""

    def __init__(self, executable: ctypes.c_void_p) -> None:
        self._executable = executable

    def launch(self, stream: Any) -> None:
        """Run it once on a stream."""
        _call("cuGraphLaunch", self._executable, ctypes.c_void_p(stream.handle))

    def close(self) -> None:
        """Free it."""
        if self._executable:
            _call("cuGraphExecDestroy", self._executable)
            self._executable = ctypes.c_void_p()


@contextlib.contextmanager
def capture(stream: Any) -> Iterator[list[Graph]]:
    """Capture what is enqueued on a stream inside the block; the list then holds the graph.

    Raises:
        BackendError: something in the block cannot be captured.
    """
    handle, graph = ctypes.c_void_p(stream.handle), ctypes.c_void_p()
    result: list[Graph] = []
    _call("cuStreamBeginCapture_v2", handle, ctypes.c_int(_RELAXED_CAPTURE))
    try:
        yield result
    except BaseException:
        with contextlib.suppress(BackendError):  # it is invalid by now; the first reason counts
            _call("cuStreamEndCapture", handle, ctypes.byref(graph))
        raise
    _call("cuStreamEndCapture", handle, ctypes.byref(graph))
    executable = ctypes.c_void_p()
    try:
        _call("cuGraphInstantiateWithFlags", ctypes.byref(executable), graph, ctypes.c_ulonglong(0))
    finally:
        _call("cuGraphDestroy", graph)
    result.append(Graph(executable))


@lru_cache(maxsize=1)
def _library() -> Any:
    try:
        return ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise _no_driver(error) from error


def _call(name: str, *arguments: Any) -> None:
    status = getattr(_library(), name)(*arguments)
    if status:
        text = ctypes.c_char_p()
        _library().cuGetErrorName(ctypes.c_int(status), ctypes.byref(text))
        kind = text.value.decode() if text.value else f"CUDA error {status}"
        raise BackendError(f"{name} gave {kind}; {_advice(status)}")


def _advice(status: int) -> str:
    """What to do after an error of the driver."""
    if status == _OUT_OF_MEMORY:
        return _ADVICE_MEMORY
    return _ADVICE_LOST if status in _LOST else _ADVICE
