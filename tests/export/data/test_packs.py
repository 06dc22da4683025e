from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from export.data import annotate, augment
from export.data.augment import evaluation_crop, inside, scaled, training_crop
from export.data.batches import draw
from export.data.duplicates import components, fingerprints, near_pairs
from export.data.packs import PACKED, drop_copies, pack, readable, split_off
from gender_edge import CropRule, DataError
from gender_edge.evaluation import FRAMINGS
from gender_edge.samples import Sample
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
    people = [replace(s, identity=f"p{i // 9}") for i, s in enumerate(samples)]
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


def test_one_unknown_identity_spoils_nothing(samples: list[Sample]) -> None:
    people = [replace(s, identity=f"p{i // 9}") for i, s in enumerate(samples)]
    people[4] = replace(people[4], identity=None)
    moved = split_off(people, "train", "val", 0.3)
    sides: dict[str, set[str | None]] = {}
    for s in moved:
        if s.identity:
            sides.setdefault(s.identity, set()).add(s.split)
    assert all(len(side) == 1 for side in sides.values())


def test_order_does_not_matter(samples: list[Sample]) -> None:
    there = {s.path for s in split_off(samples, "train", "val", 0.3) if s.split == "val"}
    back = {s.path for s in split_off(samples[::-1], "train", "val", 0.3) if s.split == "val"}
    assert there == back


def test_copies_of_held_out_pictures_leave_training(samples: list[Sample]) -> None:
    """Pictures come in threes: original, small, relit."""
    splits = ["train", "val", "test"] * 10 + ["train"] * 60
    mixed = [replace(s, split=split) for s, split in zip(samples, splits)]
    kept = drop_copies(mixed)
    assert [s for s in kept if s.split == "test"] == [s for s in mixed if s.split == "test"]
    assert sum(s.split == "val" for s in kept) == 0
    assert sum(s.split == "train" for s in kept) == 60


def test_a_set_without_held_out_splits_stays_whole(samples: list[Sample]) -> None:
    benchmark = [replace(s, split="benchmark") for s in samples]
    assert drop_copies(benchmark) == benchmark


def test_unreadable_pictures_are_left_out(
    samples: list[Sample], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"junk")
    mixed = [Sample(tmp_path / "bad.jpg", "male"), samples[0], Sample(tmp_path / "none", "male")]
    assert readable(mixed) == [samples[0]]
    assert caplog.text.count("left out") == 2


def test_faces_that_cannot_be_cut_are_left_out_by_name(
    samples: list[Sample], caplog: pytest.LogCaptureFixture
) -> None:
    first = samples[0]
    wrong = {"box": (0.0, 0.0, 0.0, 9.0)}, {"box": (9e3, 0.0, 50.0, 50.0)}
    flat = {"landmarks": ((5.0, 5.0),) * 5}
    assert readable([replace(first, **own) for own in (*wrong, flat)]) == []
    assert caplog.text.count(f"left out: {first.name}: ") == 3


def test_alike_is_not_the_same() -> None:
    """Same coarse light, other details: the hash may agree, the thumbnails do not."""
    rng = np.random.default_rng(0)
    light = cv2.resize(rng.integers(60, 190, (8, 9), np.uint8), (90, 80))[..., None]
    details = [rng.normal(0, 45, (80, 90, 3)) for _ in range(2)]
    first, second = (np.clip(light + d, 0, 255).astype(np.uint8) for d in details)
    prints = fingerprints([first, second, cv2.resize(first, (45, 40))])
    found = {(int(i), int(j)) for i, j in near_pairs(prints, prints) if i < j}
    assert found == {(0, 2)}


def test_components_join_chains() -> None:
    groups = components(4, np.array([[0, 1], [1, 2]]))
    assert groups[0] == groups[1] == groups[2] != groups[3]


def test_box_without_landmarks_is_cut_by_the_box() -> None:
    """In training as at run time."""
    image = np.zeros((100, 100, 3), np.uint8)
    image[40:60, 40:60] = 255
    sample = Sample(Path("x"), "male", box=(42, 42, 16, 16))
    assert (evaluation_crop(image, sample, CropRule(), 16, "landmarks") == 255).all()
    assert (evaluation_crop(image, sample, CropRule(), 16, "whole") == 0).any()


def test_pack_keeps_pixels_and_scales_landmarks(tmp_path: Path) -> None:
    small = np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "small.png"), small)
    cv2.imwrite(str(tmp_path / "large.png"), np.zeros((1024, 2048, 3), np.uint8))
    points = tuple((100.0 * i, 200.0) for i in range(5))
    listed = [
        Sample(tmp_path / "small.png", "male", box=(1, 2, 3, 4)),
        Sample(tmp_path / "large.png", "female", box=(0, 0, 400, 800), landmarks=points),
    ]
    before = pack(listed[:1], tmp_path / "pack")
    assert len(before.fingerprints()) == 1
    packed = pack(listed, tmp_path / "pack")  # other samples: packed again
    assert len(packed.fingerprints()) == 2
    np.testing.assert_array_equal(packed.image(0), small)
    assert packed.samples[0] == listed[0]
    assert packed.image(1).shape == (256, 350, 3), "what is further off is left out"
    assert packed.samples[1].box == (0, 0, 100, 200)
    assert packed.samples[1].landmarks is not None
    assert packed.samples[1].landmarks[4] == (100.0, 50.0)
    for framing in FRAMINGS:
        (crop,) = packed.crops([0], 16, framing)
        expected = evaluation_crop(small, listed[0], CropRule(), 16, framing)
        np.testing.assert_array_equal(crop, expected)


def test_an_interrupted_pack_leaves_no_part_of_it(samples: list[Sample], tmp_path: Path) -> None:
    unreadable = Sample(tmp_path / "none.png", "male")
    with pytest.raises(DataError, match=r"none\.png"):
        pack([samples[0], unreadable], tmp_path / "pack")
    assert not list((tmp_path / "pack").iterdir())
    whole = pack(samples[:2], tmp_path / "pack")
    assert {p.name for p in whole.folder.iterdir()} == {
        *("pixels.u8", "samples.csv", "index.npy", "fingerprints.npz", PACKED)
    }


def test_training_crops_hold_what_boxes_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a box the surroundings are seen, in what was cut out by it they are not."""
    image = np.full((200, 200, 3), 250, np.uint8)
    image[60:140, 70:130] = 10
    sample = Sample(Path("x"), "male", box=(70, 60, 60, 80))
    monkeypatch.setattr(augment, "BOX_SCALES", (1.0, 1.0))
    for name in ("lit", "degraded", "_occlude"):
        monkeypatch.setattr(augment, name, lambda crop, rng: crop)
    monkeypatch.setattr(augment, "PLAIN", 0)
    for framing, outside in ((augment.CUT_OUT, False), ("box", True)):
        monkeypatch.setattr(augment, "FRAMING_SHARES", {framing: 1.0})
        crops = [
            training_crop(image, sample, CropRule(), 48, np.random.default_rng(seed))
            for seed in range(5)
        ]
        assert all((crop == 10).any() for crop in crops)
        assert [bool((crop > 150).any()) for crop in crops] == [outside] * 5


def test_randaugment_comes_on_top_and_obeys_the_seed() -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng
    image = rng(0).integers(0, 256, (90, 90, 3), np.uint8)
    sample = Sample(Path("x"), "male", box=(10, 10, 60, 60))
    ours, more = (augment.AUGMENTATIONS[name] for name in ("ours", "ours_randaugment"))
    state = torch.get_rng_state()
    changed = 0
    for seed in range(8):
        crop = more(image, sample, CropRule(), 48, rng(seed))
        assert crop.shape == (48, 48, 3) and crop.dtype == np.uint8 and crop.flags.c_contiguous
        np.testing.assert_array_equal(crop, more(image, sample, CropRule(), 48, rng(seed)))
        changed += bool((crop != ours(image, sample, CropRule(), 48, rng(seed))).any())
    assert changed >= 6  # doing nothing is one of the changes
    assert (torch.get_rng_state() == state).all()


def test_what_a_box_holds() -> None:
    image = np.arange(100, dtype=np.uint8).reshape(10, 10)
    np.testing.assert_array_equal(inside(image, (2.0, 3.0, 4.0, 5.0)), image[3:8, 2:6])
    assert inside(image, (-5.0, -5.0, 8.0, 8.0)).shape == (3, 3)
    assert inside(image, (30.0, 30.0, 8.0, 8.0)).shape == (1, 1)


def test_boxes_grow_about_their_centre_and_not_out_of_sight() -> None:
    assert scaled((2.0, 3.0, 4.0, 8.0), 1.25, (10, 20, 3)) == (1.5, 2.0, 5.0, 10.0)
    assert scaled((2.0, 3.0, 4.0, 8.0), 3.0, (10, 20, 3)) == (1.0, 1.0, 6.0, 12.0)
    large = (-30.0, -40.0, 150.0, 200.0)
    assert scaled(large, 1.6, (128, 128, 3)) == large
    image = np.zeros((128, 128, 3), np.uint8)
    for seed in range(300):  # nor is one that was too large refused
        training_crop(
            image, Sample(Path("x"), "male", box=large), CropRule(), 48, np.random.default_rng(seed)
        )


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
    weights = np.repeat([2.5, 1.0, 0.25], (10, 100, 40))
    order = draw(weights, (0, 0))
    counts = np.bincount(order, minlength=150)
    assert len(order) in (135, 136)
    assert set(counts[:10]) == {2, 3} and set(counts[110:]) == {0, 1}
    assert (counts[10:110] == 1).all()
    assert (order[:130] != draw(weights, (0, 1))[:130]).any()


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


def test_a_face_in_a_photograph_keeps_its_pixels(tmp_path: Path, face: np.ndarray) -> None:
    """Training, INT8 ranges and calibration see of it what the runtime sees."""
    coarse = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    photograph = cv2.resize(coarse, (1600, 1200), interpolation=cv2.INTER_CUBIC)
    photograph[500:600, 900:1000] = cv2.resize(face, (100, 100), interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(tmp_path / "a.png"), photograph)
    points = ((930.0, 540.0), (970.0, 541.0), (950.0, 560.0), (935.0, 580.0), (965.0, 581.0))
    by_box = Sample(tmp_path / "a.png", "female", box=(910, 505, 80, 90))
    by_points = Sample(tmp_path / "a.png", "female", landmarks=points)
    at_the_edge = Sample(tmp_path / "a.png", "female", box=(-20, 1150, 90, 80))
    outside = Sample(tmp_path / "a.png", "female", box=(2000, 2000, 50, 50))
    listed = [by_box, by_points, replace(by_box, landmarks=points), at_the_edge]
    packed = pack([*listed, outside], tmp_path / "pack")
    for number, sample in enumerate(listed):
        stored = packed.samples[number]
        for framing in ("landmarks", "box") if sample.box else ("landmarks",):
            (crop,) = packed.crops([number], 64, framing)
            expected = evaluation_crop(photograph, sample, CropRule(), 64, framing)
            assert np.abs(crop.astype(int) - expected).mean() < 4, (number, framing)
        assert (stored.box is None, stored.landmarks is None) == (
            sample.box is None,
            sample.landmarks is None,
        )
    assert packed.image(4).shape == (256, 341, 3), "nothing to cut out"
    whole = fingerprints([photograph])
    assert len(near_pairs(packed.fingerprints(), whole)) == 5, "copies are sought in whole pictures"
