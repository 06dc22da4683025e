from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="the workshop needs torch: pip install 'gender_edge[export]'")

from export import recipe
from export.build import Places, build
from gender_edge.labelled import read_labelled

RECIPE = """
name = "tiny"
architecture = "slim"
arguments = { stem = 8, widths = [[8], [16]] }
input_size = 32
sizes = [[24, 1], [32, 1]]
learning_rate = 1e-2
batch_size = 16
calibration_images = 32
license = "none"
train = [{ list = "faces", split = "train", weight = 5.0 }]
validate = [{ list = "faces", split = "val" }]
test = [{ list = "faces", split = "test" }]
"""


def drawing(rng: np.random.Generator, label: str) -> np.ndarray:
    """A blob that two labels tell apart: bright above or bright below, at any exposure."""
    image = rng.integers(0, 90, (60, 52, 3)).astype(np.uint8)
    y = 20 if label == "female" else 42
    center = (26 + int(rng.integers(-3, 4)), y + int(rng.integers(-3, 4)))
    cv2.circle(image, center, 9, tuple(int(v) for v in rng.integers(150, 256, 3)), -1)
    return image


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`faces/`: a folder a class with 240 drawings, half of them female."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for label in ("female", "male"):
        (folder / "faces" / label).mkdir(parents=True)
        for number in range(120):
            cv2.imwrite(str(folder / "faces" / label / f"{number}.png"), drawing(rng, label))
    return folder


@pytest.fixture(scope="session")
def recipe_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipes") / "tiny.toml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="session")
def places(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Places:
    """The drawings with boxes already, so that no detector is needed."""
    home = tmp_path_factory.mktemp("build")
    boxed = home / "boxed"
    boxed.mkdir()
    lines = ["path,label,box"]
    lines += [f"{s.path},{s.label},1 5 50 50" for s in read_labelled(data / "faces")]
    (boxed / "faces").write_text("\n".join(lines))
    return Places(data=boxed, runs=home / "runs", models=home / "models")


@pytest.fixture(scope="session")
def built(places: Places, recipe_file: Path) -> list[str]:
    """The tiny recipe's shipped models; its run lies in `places` then."""
    return build(recipe.load(str(recipe_file)), places, workers=0)
