from __future__ import annotations

import csv
import logging
import os
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

from export import recipe
from export.build import Places, build
from export.data.prepare import annotated, annotation, check, learned_from, packed
from export.provenance import check_sources
from export.recipe import Recipe, Source
from export.runs import CONFIG
from gender_edge import DataError, ModelError, zoo
from gender_edge.labelled import read_labelled
from gender_edge.lists import write_csv
from gender_edge.samples import LABELS, Sample
from tests.conftest import DATA

BOX = (1.0, 5.0, 50.0, 50.0)
SPLITS = ("train", "train", "val", "test")


@pytest.fixture
def samples(data: Path) -> list[Sample]:
    """24 drawings in three splits, women and men in each."""
    labelled = read_labelled(data / "faces")
    return [
        replace([s for s in labelled if s.label == label][number], split=split, box=BOX)
        for number, split in enumerate(SPLITS * 3)
        for label in LABELS
    ]


@pytest.fixture
def own(samples: list[Sample], tmp_path: Path) -> Places:
    write_csv(samples, tmp_path / "a" / "faces")
    return Places(tmp_path / "a", tmp_path / "runs", tmp_path / "models")


def test_other_pictures_of_the_same_name_are_prepared_anew(
    own: Places, samples: list[Sample], tmp_path: Path
) -> None:
    other = {"female": "male", "male": "female"}
    before = annotated("faces", own)
    assert annotated("faces", own) == before
    made = annotation("faces", own).stat().st_mtime_ns
    elsewhere = replace(own, data=tmp_path / "b")
    write_csv(samples[6:], tmp_path / "b" / "faces")
    assert {s.path for s in annotated("faces", elsewhere)} <= {s.path for s in samples[6:]}
    assert annotation("faces", own).stat().st_mtime_ns > made
    write_csv([replace(s, label=other[s.label]) for s in samples], own.data / "faces")
    labels = {s.path: s.label for s in annotated("faces", own)}
    assert len(labels) == len(before)
    assert all(labels[s.path] == other[s.label] for s in before)


def test_another_picture_in_a_file_is_packed_anew(
    own: Places, samples: list[Sample], tmp_path: Path
) -> None:
    here = [replace(s, path=tmp_path / f"{i}.png") for i, s in enumerate(samples)]
    for copy, sample in zip(here, samples):
        copy.path.write_bytes(sample.path.read_bytes())
    write_csv(here, own.data / "faces")
    before = packed(Source("faces", "val"), own).image(0).copy()
    first = packed(Source("faces", "val"), own).samples[0].path
    first.write_bytes((tmp_path / "0.png").read_bytes())
    assert (packed(Source("faces", "val"), own).image(0) != before).any()


def test_other_pixels_under_the_same_names_are_not_gone_on_with(
    tiny: Recipe, own: Places, samples: list[Sample], tmp_path: Path
) -> None:
    """Names and labels alone would not tell: the run would be finished as it is."""
    here = [replace(s, path=tmp_path / f"{i}.png") for i, s in enumerate(samples)]
    for copy, sample in zip(here, samples):
        copy.path.write_bytes(sample.path.read_bytes())
    write_csv(here, own.data / "faces")
    packs, _ = learned_from(tiny, own)
    check_sources(tiny, packs, tmp_path / "run")
    (tmp_path / "run" / CONFIG).touch()
    check_sources(tiny, learned_from(tiny, own)[0], tmp_path / "run")
    here[0].path.write_bytes(cv2.imencode(".png", np.full((80, 80, 3), 9, np.uint8))[1].tobytes())
    with pytest.raises(DataError, match=r"was begun when the pixels of faces-train were others"):
        check_sources(tiny, learned_from(tiny, own)[0], tmp_path / "run")


def test_pictures_without_a_box_may_be_crops(own: Places, samples: list[Sample]) -> None:
    write_csv([replace(s, box=None) for s in samples], own.data / "faces")
    with pytest.raises(DataError, match=r"24 of 24 pictures have no boxes; .* say --whole"):
        annotated("faces", own)
    found = annotated("faces", replace(own, whole=True))
    assert found and all(s.box is None and s.landmarks is None for s in found)


def test_sets_go_by_names_of_their_own(tiny: Recipe, own: Places) -> None:
    twice = (Source("faces", "test"), Source("faces", "val"))
    with pytest.raises(DataError, match="names faces twice to validate or to test"):
        check(replace(tiny, test=twice), own)
    other = (Source("faces", "train"), Source("faces.csv", "train"))
    for wanted in (check, learned_from):
        with pytest.raises(DataError, match=r"faces and faces\.csv would both be called 'faces'"):
            wanted(replace(tiny, train=other), own)
    for elsewhere in (str(own.data / "faces"), "../a/faces"):
        with pytest.raises(DataError, match="from the folder of --data"):
            check(replace(tiny, train=(Source(elsewhere, "train"),)), own)


def test_other_dates_of_the_same_pictures_change_nothing(
    own: Places, samples: list[Sample]
) -> None:
    annotated("faces", own)
    made = annotation("faces", own).stat().st_mtime_ns
    for sample in samples:
        os.utime(sample.path, (1, 1))
    annotated("faces", own)
    assert annotation("faces", own).stat().st_mtime_ns == made


def test_what_was_prepared_before_this_was_noted_stays(own: Places, samples: list[Sample]) -> None:
    annotated("faces", own)
    target = annotation("faces", own)
    target.with_suffix(".json").unlink()
    write_csv(samples[4:], own.data / "faces")
    made = target.stat().st_mtime_ns
    annotated("faces", own)
    assert target.stat().st_mtime_ns == made
    write_csv(samples[8:], own.data / "faces")  # from then on it is watched
    annotated("faces", own)
    assert target.stat().st_mtime_ns > made


def test_prepared_sets_do_without_their_pictures(
    own: Places, caplog: pytest.LogCaptureFixture
) -> None:
    before = annotated("faces", own)
    (own.data / "faces").unlink()
    assert annotated("faces", own) == before
    assert "not there" in caplog.text
    with pytest.raises(DataError, match="no such file"):
        annotated("others", own)


def test_only_faces_that_nobody_gave_are_looked_for(
    portrait_path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    detector = DATA.parent / "peers" / "detector" / "face_detection_yunet_2026may.onnx"
    if not detector.exists():
        pytest.skip(f"no detector: {detector}")
    caplog.set_level(logging.INFO)
    listed = tmp_path / "faces.csv"
    rows = [["path", "label", "split", "box"], [portrait_path, "female", "test", "1 2 30 40"]]
    rows.append([portrait_path, "female", "test", ""])
    with listed.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    own = Places(tmp_path, tmp_path / "runs", tmp_path / "models")
    with pytest.raises(DataError, match=r"1 of 2 pictures have no boxes; .* --detector"):
        annotated("faces.csv", own)
    with pytest.raises(ModelError, match=r"not YuNet|cannot open it"):
        wrong = zoo.entry(zoo.default()).path
        annotated("faces.csv", replace(own, detector=wrong))
    given, found = annotated("faces.csv", replace(own, detector=detector), workers=0)
    assert given.box == (1, 2, 30, 40) and given.landmarks is None
    assert found.box is not None and found.landmarks is not None
    assert "no face found in 0 of 1 pictures" in caplog.text
    annotated("faces.csv", own)  # they are there: nobody is asked
    assert "made anew" not in caplog.text
    other = onnx.load(detector)
    other.producer_name = "another"
    onnx.save(other, tmp_path / "another.onnx")
    annotated("faces.csv", replace(own, detector=tmp_path / "another.onnx"))
    assert "made anew" in caplog.text


@pytest.fixture
def tiny(recipe_file: Path) -> Recipe:
    return recipe.load(str(recipe_file))


def test_nothing_to_learn_from_is_told_before_training(tiny: Recipe, own: Places) -> None:
    for what in ("train", "validate", "test"):
        with pytest.raises(DataError, match=f"no pictures to {what}"):
            build(replace(tiny, **{what: ()}), own, workers=0)
    assert not (own.runs / "tiny").exists()


@pytest.mark.parametrize("split", ["train", "val"])
def test_one_label_is_told_before_training(
    tiny: Recipe, own: Places, samples: list[Sample], split: str
) -> None:
    few = [s for s in samples if s.split != split or s.label == "female"]
    write_csv(few, own.data / "faces")
    with pytest.raises(DataError, match="has female faces; expected some of both labels"):
        learned_from(tiny, own)


def test_pictures_in_no_split_are_counted(
    tiny: Recipe, own: Places, samples: list[Sample], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    left = [replace(s, split=None) if i in (0, 1, 2) else s for i, s in enumerate(samples)]
    write_csv(left, own.data / "faces")
    check(tiny, own)
    assert "faces: 3 of 24 pictures are in no split that the recipe names" in caplog.text
