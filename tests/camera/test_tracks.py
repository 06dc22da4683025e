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
    tracker = Tracker()

    def numbers(moment: float, *boxes: tuple[float, ...]) -> list[int]:
        return [track.number for track in tracker.update(_faces(*boxes), moment)]

    assert numbers(0.0, (0, 0, 50, 50), (200, 0, 50, 50)) == [1, 2]
    assert numbers(0.1, (205, 5, 50, 50), (4, 2, 50, 50)) == [2, 1]
    assert numbers(0.2, (8, 4, 50, 50)) == [1]
    assert numbers(0.3, (207, 5, 50, 50), (400, 0, 9, 9)) == [2, 3]
    assert tracker.counts() == {"female": 0, "male": 0, "undecided": 3}


@pytest.mark.parametrize("frames", [0, 100])
def test_who_was_away_too_long_is_somebody_else(frames: int) -> None:
    """By the clock: whether there were frames meanwhile, or none, as where a camera was lost."""
    tracker = Tracker(Smoothing(forget=2.0))
    here = _faces((0, 0, 50, 50))
    tracker.update(here, 0.0)[0].answer(0.99)
    for number in range(frames):
        tracker.update(_faces(), 1.9 * number / frames)
    (same,) = tracker.update(here, 1.9)
    assert same.number == 1 and same.label == "female"
    for number in range(frames):
        tracker.update(_faces(), 1.9 + 2.1 * number / frames)
    (other,) = tracker.update(here, 4.0)
    assert other.number == 2 and other.label is None and other.answers == 0
    assert tracker.counts() == {"female": 1, "male": 0, "undecided": 1}


def test_nobody_outlasts_a_cut() -> None:
    tracker = Tracker()
    here = _faces((0, 0, 50, 50), (200, 0, 50, 50))
    tracker.update(here, 0.0)
    tracker.cut()
    assert [track.number for track in tracker.update(here, 0.0)] == [3, 4]
    assert tracker.counts()["undecided"] == 4


def test_every_face_has_a_track_of_its_own() -> None:
    """Two boxes over one track: the nearer one is it."""
    tracker = Tracker()
    tracker.update(_faces((0, 0, 100, 100)), 0.0)
    near, far = tracker.update(_faces((2, 0, 100, 100), (40, 0, 100, 100)), 0.1)
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


def test_thresholds_of_never_and_always() -> None:
    thresholds = {"female": 0.0, "male": 1.0}
    track = Track(1, np.zeros(4), Smoothing(), thresholds)
    for _ in range(20):
        track.answer(0.0)
    assert track.label is None
    for _ in range(40):
        track.answer(0.9)
    assert track.label == "female"
    for _ in range(20):
        track.answer(0.0)
    assert track.label is None and track.flips == 1  # a man is not left with the wrong one


def test_no_track_is_decided_without_a_label() -> None:
    """Sure enough for the rule, but not for the model: it is asked on, frame after frame."""
    track = Track(1, np.zeros(4), Smoothing(), {"female": 0.97, "male": 0.97})
    for _ in range(300):
        if track.wants_answer():
            track.answer(0.96)
    assert track.label is None and not track.decided and track.answers == 300
    while track.label is None:
        track.answer(0.99)
    assert track.decided


def test_a_label_is_not_given_up_at_once() -> None:
    """Each answer counts alone here, so that nothing but hysteresis holds the label."""
    track = _answered([0.9], Smoothing(memory=1))
    for female in (0.4, 0.6, 0.3, 0.7, 0.45):  # log-odds down to -0.85
        track.answer(female)
        assert track.label == "female" and track.flips == 0
    track.answer(0.2)
    assert track.label == "male" and track.flips == 1


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
