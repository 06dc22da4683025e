"""Arrays that lie on a GPU already, whoever made them: DLPack and `__cuda_array_interface__`.

Nothing is imported and nothing copied: both protocols hand over an address, a shape and the stream
that the values are ready on. PyTorch, CuPy, Numba, JAX and pycuda's GPUArray speak one or both.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

from .errors import ImageError

_CUDA, _CUDA_MANAGED = 2, 13  # DLDeviceType
_UINT = 1  # DLDataTypeCode


@dataclass(frozen=True)
class GpuArray:
    """A borrowed C-contiguous uint8 array.

    Attributes:
        address: of its first byte, on the GPU.
        shape: as its owner says.
        stream: handle of the stream on which its values are ready, to be worked on.
        owner: kept, so that the memory stays until the work is done.
    """

    address: int
    shape: tuple[int, ...]
    stream: int
    owner: Any


def on_gpu(value: Any) -> bool:
    """Whether a value is an array in a GPU's memory."""
    if hasattr(value, "__dlpack_device__"):
        return int(value.__dlpack_device__()[0]) in (_CUDA, _CUDA_MANAGED)
    return hasattr(type(value), "__cuda_array_interface__")


def borrow(value: Any, stream: int, index: int = 0) -> GpuArray:
    """What lies behind an array, ready to be read on a stream.

    Args:
        value: anything that `on_gpu` accepts.
        stream: handle of the stream that will be used unless the array's owner names its own: with
            DLPack the owner makes it wait for what is still being written.
        index: number of the GPU that shall read it.

    Raises:
        ImageError: not uint8, not C-contiguous, or (DLPack tells, the other does not) on another
            GPU.
    """
    if hasattr(value, "__dlpack_device__"):
        return _from_dlpack(value, stream, index)
    return _from_interface(value, stream)


def elsewhere(found: int, index: int) -> ImageError:
    """The error about crops that lie on another GPU than the engine."""
    return ImageError(f"crops lie on GPU {found}, the engine on GPU {index}; move them there")


def _from_interface(value: Any, stream: int) -> GpuArray:
    """Version 3 of https://numba.readthedocs.io/en/stable/cuda/cuda_array_interface.html."""
    described = value.__cuda_array_interface__
    shape = tuple(int(n) for n in described["shape"])
    _check(
        described["typestr"] == "|u1", str(described["typestr"]), shape, described.get("strides")
    )
    own = described.get("stream")  # absent or None: ready now, on any stream
    return GpuArray(int(described["data"][0]), shape, int(own) if own else stream, value)


class _DLTensor(ctypes.Structure):
    """The head of DLManagedTensor, https://dmlc.github.io/dlpack/latest/c_api.html."""

    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


def _from_dlpack(value: Any, stream: int, index: int) -> GpuArray:
    device = int(value.__dlpack_device__()[1])
    if device != index:
        raise elsewhere(device, index)
    return _read_capsule(value.__dlpack__(stream=stream), stream)


def _read_capsule(capsule: Any, stream: int) -> GpuArray:
    """A capsule is left unconsumed: its destructor gives the tensor back once `owner` goes."""
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    tensor = ctypes.cast(pointer(capsule, b"dltensor"), ctypes.POINTER(_DLTensor)).contents
    shape = tuple(tensor.shape[i] for i in range(tensor.ndim))
    strides = tuple(tensor.strides[i] for i in range(tensor.ndim)) if tensor.strides else None
    plain = (tensor.code, tensor.bits, tensor.lanes) == (_UINT, 8, 1)
    _check(plain, f"{tensor.bits}-bit type {tensor.code}", shape, strides)
    return GpuArray(int(tensor.data or 0) + tensor.byte_offset, shape, stream, capsule)


def _check(plain: bool, dtype: str, shape: tuple[int, ...], strides: Any) -> None:
    if not plain:
        raise ImageError(f"crops on the GPU are {dtype}: expected uint8; convert them there")
    expected = 1
    for size, stride in zip(reversed(shape), reversed(strides or ())):
        if size != 1 and stride != expected:
            raise ImageError(
                f"crops on the GPU have strides {tuple(strides)}: expected C-contiguous (N, S, S, "
                "3); make them contiguous there"
            )
        expected *= size
