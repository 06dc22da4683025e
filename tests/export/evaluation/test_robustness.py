from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from export.evaluation.robustness import BOXES, CONDITIONS, measure
from gender_edge import Classifier, DataError
from gender_edge.samples import LABELS, Sample


@pytest.mark.parametrize("name", CONDITIONS)
@pytest.mark.parametrize("side", [48, 64])
def test_conditions_alter_a_crop_and_leave_its_kind(name: str, side: int, face: np.ndarray) -> None:
    crop = cv2.resize(face, (side, side), interpolation=cv2.INTER_AREA)
    before, other = crop.copy(), 255 - crop
    found = CONDITIONS[name](crop, other, np.random.default_rng(0))
    assert found.shape == crop.shape and found.dtype == np.uint8
    np.testing.assert_array_equal(crop, before)
    assert (found != crop).any() == (name != "as it is")
    again = CONDITIONS[name](crop, other, np.random.default_rng(0))
    np.testing.assert_array_equal(found, again)


def test_sets_count_the_same(face: np.ndarray, tmp_path: Path) -> None:
    """The same face with one label in one set and both in the other."""
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), face)
    right, wrong = Sample(path, "female"), Sample(path, "male")
    with Classifier() as classifier:
        female = classifier(path)[0].female >= 0.5
        found = measure(classifier, [[right, wrong], [right, wrong, wrong]])
    assert list(found) == [*CONDITIONS, *BOXES]
    plain = found["as it is"]
    assert [plain[key]["value"] for key in ("women", "men")] == [female, not female]
    both = plain["balanced_accuracy"]
    assert both["low"] < both["value"] == 0.5 < both["high"]
    with Classifier() as classifier, pytest.raises(DataError, match="both labels"):
        measure(classifier, [[right, right]])


def test_boxes_of_other_sizes_are_cut(portrait_path: Path) -> None:
    """What is measured is what `crop` gives for a box that is larger about its centre, or for the
    part of the picture that it holds.
    """
    asked: list[Any] = []

    class Noting(Classifier):
        def crop(self, image: np.ndarray, **guides: Any) -> np.ndarray:
            asked.append(guides["box"] or image.shape)
            return super().crop(image, **guides)

    female, male = (Sample(portrait_path, label, box=(178, 63, 90, 113)) for label in LABELS)
    with Noting() as classifier:
        found = measure(classifier, [[female, male]])
    assert found["its own box"]["women"]["value"] == 1
    assert (155.5, 34.75, 135, 169.5) in asked
    assert asked[-2:] == [(143, 114, 3)] * 2


def test_hair_is_that_of_the_other_label(face: np.ndarray) -> None:
    crop = cv2.resize(face, (64, 64), interpolation=cv2.INTER_AREA)
    found = CONDITIONS["hair of the other label"](crop, 255 - crop, np.random.default_rng(0))
    np.testing.assert_array_equal(found[28:36, 28:36], crop[28:36, 28:36])
    np.testing.assert_array_equal(found[[0, -1]], 255 - crop[[0, -1]])
