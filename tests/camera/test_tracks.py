from __future__ import annotations

import numpy as np
import pytest

from gender_edge.faces import Faces
from gender_edge.tracks import Smoothing, Track, Tracker, overlaps


def _faces(*boxes: tuple[float, ...]) -> Faces:
    return Faces(np.array(boxes, np.float32).reshape(-1, 4), None, np.ones(len(boxes), np.float32))


def test_overlaps() -> None:
    found = overlaps(
        np.array([[0, 0, 10, 10]]), np.array([[0, 0, 10, 10], [5, 0, 10, 10], [20, 0, 5, 5]])
    )
    np.testing.assert_allclose(found, [[1, 50 / 150, 0]])


def test_faces_keep_their_numbers() -> None:
    """Two that move, whatever their order; one that comes later; one that was away for a moment."""
    tracker = Tracker(Smoothing(forget=2))
    first = tracker.update(_faces((0, 0, 50, 50), (200, 0, 50, 50)))
    assert [t.number for t in first] == [1, 2]
    assert [t.number for t in tracker.update(_faces((205, 5, 50, 50), (4, 2, 50, 50)))] == [2, 1]
    assert [t.number for t in tracker.update(_faces((8, 4, 50, 50)))] == [1]
    assert [t.number for t in tracker.update(_faces((207, 5, 50, 50), (400, 0, 9, 9)))] == [2, 3]
    for _ in range(3):
        tracker.update(_faces())
    assert [t.number for t in tracker.update(_faces((207, 5, 50, 50)))] == [4]
    assert tracker.counts() == {"female": 0, "male": 0, "undecided": 4}


def test_every_face_has_a_track_of_its_own() -> None:
    """Two boxes over one track: the nearer one is it."""
    tracker = Tracker()
    tracker.update(_faces((0, 0, 100, 100)))
    near, far = tracker.update(_faces((2, 0, 100, 100), (40, 0, 100, 100)))
    assert near.number == 1 and far.number == 2


def _answered(answers: list[float], smoothing: Smoothing = Smoothing()) -> Track:  # noqa: B008
    track = Track(1, np.zeros(4), smoothing)
    for female in answers:
        track.answer(female)
    return track


def test_the_models_own_thresholds_hold() -> None:
    """Three in four would do for a label, but the model withholds "male" below nine in ten."""
    strict = {"female": 0.6, "male": 0.9}
    track = Track(1, np.zeros(4), Smoothing(), strict)
    track.answer(0.2)
    assert track.label is None
    track = Track(1, np.zeros(4), Smoothing(), strict)
    track.answer(0.05)
    assert track.label == "male" and track.sureness == pytest.approx(0.95)


def test_a_label_needs_reason_and_does_not_flicker() -> None:
    assert _answered([0.6]).label is None
    assert _answered([0.9]).label == "female"
    rng = np.random.default_rng(0)
    noisy = list(np.clip(0.7 + rng.normal(0, 0.25, 300), 0.02, 0.98))
    raw = [p > 0.5 for p in noisy]
    assert sum(a != b for a, b in zip(raw, raw[1:])) > 50
    track = _answered(noisy)
    assert track.label == "female" and track.flips <= 1


def test_a_label_changes_when_it_must() -> None:
    track = _answered([0.9] * 10 + [0.05] * 30)
    assert track.label == "male" and track.flips == 1 and track.female < 0.2


def test_the_mean_is_of_log_odds() -> None:
    assert _answered([0.9, 0.5]).log_odds == pytest.approx(np.log(9) / 2)
    assert abs(_answered([1.0, 0.0]).log_odds) < 1e-6  # certainties do not drown the rest


def test_who_is_sure_rests() -> None:
    track = _answered([0.99] * 5, Smoothing(again=4))
    assert track.decided
    assert [track.wants_answer() for _ in range(4)] == [False, False, False, True]
    track.answer(0.99)
    assert not track.wants_answer()
    assert _answered([0.6] * 20).wants_answer()
