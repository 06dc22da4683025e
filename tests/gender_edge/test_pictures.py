from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest

from gender_edge import Classifier, Prediction, pictures
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
