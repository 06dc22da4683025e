"""Crops that lie on the GPU already: read there, on their owner's stream."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.gpu_overhead import Resident
from gender_edge import Classifier, ImageError
from gender_edge.backends import cuda

from .conftest import MAX_BATCH, crops, female

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("count", [1, 5, MAX_BATCH, 2 * MAX_BATCH + 3])
def test_arrays_in_its_memory(opened: Classifier, device: cuda.Device, count: int) -> None:
    batch = crops(opened, count)
    expected = female(opened, batch)
    with device.current():
        resident = Resident(device, batch)
        found = female(opened, resident)
        resident.memory.free()
    np.testing.assert_allclose(found, expected, atol=0.05)
    np.testing.assert_allclose(female(opened, batch), expected, atol=1e-5)  # graphs still do


def test_what_torch_still_computes_is_waited_for(opened: Classifier) -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("this torch has no CUDA")
    batch = crops(opened, 4)
    expected = female(opened, batch)
    host = torch.from_numpy(batch).pin_memory()
    big = torch.ones(4096, 4096, device="cuda")
    with torch.cuda.stream(torch.cuda.Stream()):
        for _ in range(20):
            big = big @ big * 1e-4
        resident = host.to("cuda", non_blocking=True) + (big[0, 0] * 0).to(torch.uint8)
        found = female(opened, resident)
    np.testing.assert_allclose(found, expected, atol=0.05)
    with pytest.raises(ImageError, match="C-contiguous"):
        opened.predict(resident.flip(0)[:, :, ::2])
    with pytest.raises(ImageError, match="expected uint8"):
        opened.predict(resident.float())
