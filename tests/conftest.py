from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from gender_edge import Classifier, zoo
from gender_edge.labelled import read_labelled
from gender_edge.samples import Sample

ROOT = Path(__file__).parent.parent
DATA = Path(os.environ.get("GENDER_EDGE_DATA", ROOT.parent / "shared" / "data"))
MODELS = os.environ.get("GENDER_EDGE_MODELS")  # shipped names by commas, for less than all of them
PORTRAIT_BOX = (178, 63, 90, 113)  # Eileen Collins' face, x y w h


@pytest.fixture(scope="session")
def portrait_path() -> Path:
    """NASA's portrait of Eileen Collins, public domain, as scikit-image ships it."""
    spec = importlib.util.find_spec("skimage")
    assert spec is not None and spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "data" / "astronaut.png"


@pytest.fixture(scope="session")
def portrait(portrait_path: Path) -> np.ndarray:
    return cv2.imread(str(portrait_path))


@pytest.fixture(scope="session")
def face(portrait: np.ndarray) -> np.ndarray:
    x, y, w, h = PORTRAIT_BOX
    return portrait[y - 20 : y + h + 10, x - 20 : x + w + 20].copy()


@pytest.fixture(scope="session", params=MODELS.split(",") if MODELS else zoo.names())
def shipped(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def classifier() -> Classifier:
    return Classifier()


def labelled(name: str) -> list[Sample]:
    """A set of ../shared/data, or a skip that says what is missing."""
    path = DATA / f"{name}.csv"
    if not path.exists():
        pytest.skip(f"labelled faces not found: {path} (set GENDER_EDGE_DATA)")
    return read_labelled(path)
