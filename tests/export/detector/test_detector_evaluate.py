"""What a detector of ours is compared by: faces found, false alarms, time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip(
    "torch", reason="the workshop needs torch: pip install 'gender_edge[export]'"
)
pytest.importorskip("skimage", reason="backgrounds are scikit-image's: pip install scikit-image")

from export.detector import evaluate  # noqa: E402
from export.detector.evaluate import Frame  # noqa: E402
from gender_edge.faces import Faces  # noqa: E402


def test_detectors_take_turns_at_the_clock() -> None:
    asked = []
    detectors = {n: lambda _, n=n: asked.append(n) or _said() for n in ("one", "other")}
    frames = [Frame(np.zeros((9, 9, 3), np.uint8))] * 2
    found = evaluate.latency(detectors, frames)
    assert asked == ["one", "other"] * 2 * (evaluate.ROUNDS + 1)
    assert found["one"]["times"] == 1 and found["other"]["ms"] > 0


def _said(*boxes: tuple[float, ...], shift: float = 0.0) -> Faces:
    """Faces with landmarks in given places of their boxes."""
    all_boxes = np.array(boxes, np.float32).reshape(-1, 4)
    places = np.array([(0.25, 0.3), (0.75, 0.3), (0.5, 0.5), (0.3, 0.8), (0.7, 0.8)])
    points = all_boxes[:, None, :2] + places * all_boxes[:, None, 2:] + shift
    return Faces(all_boxes, points.astype(np.float32), np.full(len(all_boxes), 0.9, np.float32))


def test_figures_count_what_is_found_and_what_is_not() -> None:
    """Of three faces the smallest is missed, one is a little off; two false alarms, one known. A
    false alarm of the reference is no face that could be missed.
    """
    truth = [(10, 10, 28, 28), (100, 10, 40, 40), (200, 100, 80, 80)]
    reference = _said(*truth, (400, 300, 10, 10), (300, 300, 99, 99))  # too small; false
    own = _said(*truth[1:], (300, 10, 50, 50), (10, 300, 50, 50), shift=2.0)
    known = np.array([*truth, (300, 10, 50, 50)], np.float32)
    frame = Frame(np.zeros((480, 640, 3), np.uint8), known)
    found = evaluate.compare(lambda _: own, lambda _: reference, [frame] * 5)
    sizes = found["sizes"]
    assert [sizes[n]["faces"] for n in ("all", *evaluate.SIZES)] == [15, 5, 5, 5]
    assert [sizes[n]["found"]["value"] for n in evaluate.SIZES] == [0, 1, 1]
    assert sizes["all"]["found"]["value"] == pytest.approx(2 / 3)
    assert sizes["64 and more"]["landmark_error"] == pytest.approx(2 * 2**0.5 / 40, rel=1e-4)
    assert sizes["24 to 32"]["landmark_error"] is None
    assert found["found_of_all"]["value"] == 0.5
    assert found["false_alarms"] == 1 and found["false_alarms_reference"] == 2


def test_the_least_score_keeps_the_wanted_share() -> None:
    """Ten faces found with scores of 0.05 to 0.95, one of them not at all."""
    scores = iter(np.arange(0.05, 1, 0.1))
    there = _said((50, 50, 60, 60))

    def own(frame: np.ndarray) -> Faces:
        score = next(scores)
        return replace(
            there if score > 0.1 else _said(), scores=np.array([score] * int(score > 0.1))
        )

    frames = [Frame(np.zeros((9, 9, 3), np.uint8))] * 10
    least, found = evaluate.least_score(own, lambda _: there, frames, 0.8)
    assert 0.15 < least <= 0.26 and found == pytest.approx(0.9)
