from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from export import annotate, data
from export.augment import training_crop
from export.data import cluster, difference_hash, pack, split_off
from export.train import draw
from gender_edge import CropRule, DataError
from gender_edge.labelled import Sample
from tests.conftest import DATA


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    """30 noise pictures, each also as a lighter and a smaller copy."""
    rng = np.random.default_rng(0)
    made = []
    for number in range(30):
        image = cv2.resize(rng.integers(0, 256, (9, 9, 3), np.uint8), (90, 90))
        for kind, copy in enumerate((image, cv2.resize(image, (60, 60)), image // 2 + 60)):
            path = tmp_path / f"{number}-{kind}.png"
            cv2.imwrite(str(path), copy)
            made.append(Sample(path, "male", split="train"))
    return made


def test_near_duplicates_stay_on_one_side(samples: list[Sample]) -> None:
    for share in (0.1, 0.5):
        moved = split_off(samples, "train", "val", share)
        sides: dict[str, set[str | None]] = {}
        for s in moved:
            sides.setdefault(s.path.name.split("-")[0], set()).add(s.split)
        assert all(len(side) == 1 for side in sides.values())
        assert sum(s.split == "val" for s in moved) / len(moved) == pytest.approx(share, abs=0.05)


def test_identities_stay_on_one_side(samples: list[Sample]) -> None:
    people = [replace(s, identity=f"p{i % 10}") for i, s in enumerate(samples)]
    moved = split_off(people, "train", "val", 0.3)
    sides: dict[str | None, set[str | None]] = {}
    for s in moved:
        sides.setdefault(s.identity, set()).add(s.split)
    assert all(len(side) == 1 for side in sides.values())
    assert {s.split for s in moved} == {"train", "val"}


def test_only_the_named_split_is_touched(samples: list[Sample]) -> None:
    mixed = [replace(s, split="test") if i % 2 else s for i, s in enumerate(samples)]
    moved = split_off(mixed, "train", "val", 0.5)
    assert [s for s in moved if s.split == "test"] == [s for s in mixed if s.split == "test"]


def test_cluster_joins_chains() -> None:
    hashes = np.zeros((4, 8), np.uint8)
    hashes[1, 0], hashes[2, 0] = 0b1111, 0b11111111
    hashes[3] = 255
    groups = cluster(hashes, 4)
    assert groups[0] == groups[1] == groups[2] != groups[3]


def test_hash_ignores_size_and_light() -> None:
    image = cv2.resize(np.random.default_rng(3).integers(0, 256, (9, 9, 3), np.uint8), (128, 128))
    first = difference_hash(image)
    for other in (cv2.resize(image, (64, 64)), image // 2 + 30):
        assert np.unpackbits(first ^ difference_hash(other)).sum() <= data.HASH_DISTANCE


def test_pack_keeps_pixels_and_scales_landmarks(tmp_path: Path) -> None:
    small = np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "small.png"), small)
    cv2.imwrite(str(tmp_path / "large.png"), np.zeros((1024, 2048, 3), np.uint8))
    points = tuple((100.0 * i, 200.0) for i in range(5))
    listed = [
        Sample(tmp_path / "small.png", "male", box=(1, 2, 3, 4)),
        Sample(tmp_path / "large.png", "female", box=(0, 0, 400, 800), landmarks=points),
    ]
    packed = pack(listed, tmp_path / "pack")
    np.testing.assert_array_equal(packed.image(0), small)
    assert packed.samples[0] == listed[0]
    assert packed.image(1).shape == (256, 512, 3)
    assert packed.samples[1].box == (0, 0, 100, 200)
    assert packed.samples[1].landmarks is not None
    assert packed.samples[1].landmarks[4] == (100.0, 50.0)


def test_training_crops_repeat_with_their_seed() -> None:
    image = np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8)
    points = tuple((128 * x, 128 * y) for x, y in CropRule().landmarks)
    sample = Sample(Path("x"), "male", box=(20, 20, 80, 90), landmarks=points)
    crops = [
        training_crop(image, sample, CropRule(), 48, np.random.default_rng(seed))
        for seed in (1, 1, 2)
    ]
    assert crops[0].shape == (48, 48, 3) and crops[0].dtype == np.uint8
    np.testing.assert_array_equal(crops[0], crops[1])
    assert (crops[0] != crops[2]).any()


def test_draw_follows_the_weights() -> None:
    order = draw([range(10), range(100)], [2.5, 1.0], (0, 0))  # type: ignore[list-item]
    counts = np.bincount(order, minlength=110)
    assert counts[:10].sum() == 25 and counts[:10].min() == 2
    assert (counts[10:] == 1).all()
    assert (order != draw([range(10), range(100)], [2.5, 1.0], (0, 1))).any()  # type: ignore[list-item]


def test_faces_are_found(portrait_path: Path, tmp_path: Path) -> None:
    detector = DATA.parent / "peers" / "detector" / "face_detection_yunet_2026may.onnx"
    if not detector.exists():
        pytest.skip(f"no detector: {detector}")
    blank = tmp_path / "blank.png"
    cv2.imwrite(str(blank), np.full((90, 90, 3), 90, np.uint8))
    found, missed = annotate.annotate(
        [Sample(portrait_path, "female"), Sample(blank, "male")], detector, workers=1
    )
    assert found.box is not None and found.landmarks is not None
    np.testing.assert_allclose(found.landmarks[0], (200, 102), atol=6)
    np.testing.assert_allclose(found.landmarks[4], (240, 144), atol=6)
    assert missed.box is None
    with pytest.raises(DataError, match="--detector"):
        annotate.annotate([found], tmp_path / "none.onnx")
