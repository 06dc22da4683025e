"""The protocols by which arrays change hands, read without a GPU: NumPy speaks DLPack too."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest

from gender_edge import Classifier, ImageError
from gender_edge.backends.tensorrt_slot import buckets
from gender_edge.gpu_arrays import _read_capsule, borrow, on_gpu


class Speaks:
    """An object with `__cuda_array_interface__`, as Numba's and pycuda's arrays are."""

    def __init__(self, **changes: Any) -> None:
        self.described = {
            "shape": (4, 8, 8, 3),
            "typestr": "|u1",
            "data": (0x7000, False),
            "version": 3,
            **changes,
        }

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return self.described


def test_capsule_tells_address_and_shape() -> None:
    array = np.zeros((5, 4, 4, 3), np.uint8)
    found = _read_capsule(array[2:].__dlpack__(), 7)
    assert found.address == array[2:].ctypes.data
    assert (found.shape, found.stream) == ((3, 4, 4, 3), 7)


def test_memory_stays_as_long_as_it_is_borrowed_and_no_longer() -> None:
    class Owned(np.ndarray):
        pass

    array = np.zeros((1, 4, 4, 3), np.uint8).view(Owned)
    alive = weakref.ref(array)
    found = _read_capsule(array.__dlpack__(), 0)
    del array
    gc.collect()
    assert alive() is not None
    del found
    gc.collect()
    assert alive() is None


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 4, 4, 3), np.float32), "expected uint8"),
        (np.zeros((2, 4, 4, 3), np.int8), "expected uint8"),
        (np.zeros((2, 3, 4, 4), np.uint8).transpose(0, 2, 3, 1), "C-contiguous"),
        (np.zeros((2, 8, 4, 3), np.uint8)[:, ::2], "C-contiguous"),
    ],
)
def test_what_cannot_be_read_in_place_is_refused(array: np.ndarray, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        _read_capsule(array.__dlpack__(), 0)


def test_interface_with_its_own_stream_and_without() -> None:
    assert borrow(Speaks(), 9).stream == 9
    assert borrow(Speaks(stream=None), 9).stream == 9
    found = borrow(Speaks(stream=2, strides=(192, 24, 3, 1)), 9)
    assert (found.address, found.stream, found.shape) == (0x7000, 2, (4, 8, 8, 3))
    with pytest.raises(ImageError, match="<f4: expected uint8"):
        borrow(Speaks(typestr="<f4"), 9)
    with pytest.raises(ImageError, match="C-contiguous"):
        borrow(Speaks(strides=(1, 24, 3, 192)), 9)


def test_where_arrays_lie() -> None:
    assert on_gpu(Speaks())
    assert not on_gpu(np.zeros(3))
    assert not on_gpu([1, 2])


def test_onnx_runtime_on_the_cpu_says_that_it_cannot_read_there() -> None:
    with Classifier(device="onnxruntime") as classifier:
        with pytest.raises(ImageError, match="open a TensorRT engine"):
            classifier.predict(Speaks())
        with pytest.raises(ImageError, match="crops list: expected uint8"):
            classifier.predict([1, 2])


@pytest.mark.parametrize("largest", [1, 2, 3, 16, 48, 64])
def test_buckets_hold_every_batch(largest: int) -> None:
    found = buckets(largest)
    assert found[-1] == largest and found == sorted(set(found)) and found[0] == 1
    for count in range(1, largest + 1):
        assert next(n for n in found if n >= count) < 2 * count
