"""What the tests on a GPU share: an engine of every shipped model, built there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from gender_edge import BackendError, Classifier, build_engine
from gender_edge.backends import cuda

MAX_BATCH = 16


@pytest.fixture(scope="session")
def device() -> cuda.Device:
    try:
        return cuda.open_device()
    except BackendError as error:
        pytest.skip(f"no GPU: {error}")


@pytest.fixture(scope="session")  # built once for all files
def engine(device: cuda.Device, shipped: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("engines") / f"{shipped}.engine"
    return build_engine(shipped, path, max_batch=MAX_BATCH)


@pytest.fixture(scope="module")
def opened(engine: Path) -> Iterator[Classifier]:
    with Classifier(engine) as classifier:
        yield classifier


def crops(classifier: Classifier, count: int, seed: int = 0) -> np.ndarray:
    side = classifier.spec.input_size
    smooth = np.random.default_rng(seed).integers(0, 256, (count, 5, 5, 3)).astype(np.float32)
    rows = np.linspace(0, 4, side).round().astype(int)
    return smooth[:, rows][:, :, rows].astype(np.uint8)


def female(classifier: Classifier, batch: np.ndarray) -> np.ndarray:
    return np.array([p.female for p in classifier.predict(batch)])
