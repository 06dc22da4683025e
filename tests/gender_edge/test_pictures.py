from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest

from gender_edge import Classifier, DataError, ImageError, Prediction, pictures
from gender_edge.labelled import read_labelled
from tests.conftest import PORTRAIT_BOX

POINTS = np.float32([[202, 110], [242, 108], [225, 136], [207, 148], [244, 146]])
CHANGED = POINTS[[1, 0, 2, 4, 3]]  # left and right, as in the order of some detectors


def test_landmarks_that_lie_as_no_faces_do_leave_the_box(
    portrait_path: Path, classifier: Classifier, caplog: pytest.LogCaptureFixture
) -> None:
    """Each such row says so, and the log once."""
    boxes = np.float32([PORTRAIT_BOX, PORTRAIT_BOX, (9000, 0, 50, 50)])
    points = np.stack([POINTS, CHANGED, CHANGED])
    files = [str(portrait_path)] * 2
    rows = list(pictures.found(classifier, files, lambda frame: (boxes, points)))
    (aligned, boxed) = (
        classifier.in_frame(str(portrait_path), boxes[:1], own)[0] for own in (points[:1], None)
    )
    for one, other, lost in (rows[:3], rows[3:]):
        assert isinstance(one.answer, Prediction) and isinstance(other.answer, Prediction)
        assert one.answer.female == pytest.approx(aligned.female, abs=2e-3)
        assert other.answer.female == pytest.approx(boxed.female, abs=2e-3)
        assert "unaligned" not in json.loads(one.as_json()) and "cut by" not in str(one)
        assert "lie as no face" in json.loads(other.as_json())["unaligned"]
        assert str(other).endswith("\tcut by its box")
        assert set(json.loads(lost.as_json())) == {"path", "error", "box"}
    (told,) = (r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING)
    assert str(portrait_path) in told and "cut by its box" in told and "lie as no face" in told


def test_the_faces_of_a_picture_are_run_together(
    portrait_path: Path, classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those whose landmarks will not do."""
    boxes, points = np.float32([PORTRAIT_BOX] * 3), np.stack([CHANGED] * 3)
    asked: list[int] = []
    predict = classifier.predict
    monkeypatch.setattr(classifier, "predict", lambda c: asked.append(len(c)) or predict(c))
    rows = pictures.found(classifier, [str(portrait_path)], lambda frame: (boxes, points))
    assert len(list(rows)) == 3 and asked == [3]


def test_a_row_is_a_line_whatever_the_file_is_called(
    tmp_path: Path, portrait_path: Path, classifier: Classifier
) -> None:
    odd = tmp_path / "a\nb\tc.png"
    odd.write_bytes(portrait_path.read_bytes())
    for row in pictures.crops(classifier, [str(odd), str(tmp_path / "not\nthere.png")]):
        assert "\n" not in str(row) and str(row).startswith(str(tmp_path))
        assert json.loads(row.as_json())["path"].count("\n") == 1


def test_nothing_named_is_not_the_present_folder(classifier: Classifier) -> None:
    (row,) = pictures.crops(classifier, list(pictures.listed([""])))
    assert isinstance(row.answer, ImageError)
    with pytest.raises(DataError, match="no folder or list is named"):
        read_labelled("")


def test_a_box_is_cut_as_of_a_frame(portrait_path: Path, classifier: Classifier) -> None:
    path = str(portrait_path)
    good, bad = list(PORTRAIT_BOX), [5.0, 5.0, 0.0, 0.0]
    (row,) = pictures.boxed(classifier, [path], good)
    assert [row.answer] == classifier.in_frame(path, [good])
    (row,) = pictures.boxed(classifier, [path], bad)
    assert isinstance(row.answer, ImageError) and str(row.answer).startswith("box")
