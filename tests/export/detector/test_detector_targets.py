"""What a scene teaches the face detector: whom its teacher vouches for, targets, losses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip(
    "torch", reason="the workshop needs torch: pip install 'gender_edge[export]'"
)
pytest.importorskip("skimage", reason="backgrounds are scikit-image's: pip install scikit-image")

from export.detector.losses import losses  # noqa: E402
from export.detector.network import STRIDES  # noqa: E402
from export.detector.scenes import Scene, heard  # noqa: E402
from export.detector.targets import FACE, NOTHING, UNSAID, cells, targets  # noqa: E402
from gender_edge.faces import Faces  # noqa: E402
from gender_edge.faces.spotter import decode  # noqa: E402


def test_what_the_teacher_cannot_see_is_not_taught() -> None:
    boxes = np.array([[10, 10, 30, 40], [100, 50, 20, 30]], np.float32)
    points = np.stack([np.full((5, 2), value, np.float32) for value in (1, 2)])
    drawn = Scene(np.zeros((120, 160, 3), np.uint8), boxes, points, np.empty((0, 4), np.float32))
    said = np.array([[12, 11, 30, 40], [60, 80, 20, 20]], np.float32)
    found = heard(drawn, lambda frame: Faces(said, None, np.ones(2, np.float32)))
    np.testing.assert_array_equal(found.boxes, boxes[:1])
    np.testing.assert_array_equal(found.landmarks, points[:1])
    np.testing.assert_array_equal(found.ignored, [boxes[1], said[1]])


def test_of_what_is_half_hidden_the_teacher_says_where_it_is() -> None:
    """If it is sure, and sees the face elsewhere: where both agree, what was pasted is exact."""
    boxes = np.array([[100, 50, 40, 40], [10, 10, 40, 40]], np.float32)
    points = np.stack([np.full((5, 2), value, np.float32) for value in (1, 2)])
    drawn = Scene(np.zeros((120, 160, 3), np.uint8), boxes, points, np.empty((0, 4), np.float32))
    said = np.array([[11, 11, 40, 40], [100, 50, 40, 25]], np.float32)

    def teacher(score: float) -> Faces:
        return Faces(said, points + 7, np.array([0.9, score], np.float32))

    sure = heard(drawn, lambda frame: teacher(0.9))
    np.testing.assert_array_equal(sure.boxes, [said[1], boxes[1]])
    np.testing.assert_array_equal(sure.landmarks, [points[1] + 7, points[1]])
    np.testing.assert_array_equal(heard(drawn, lambda frame: teacher(0.3)).boxes, boxes)


@pytest.mark.parametrize("score", [0.9, 0.3])
def test_people_in_the_background_are_learned_if_the_teacher_is_sure(score: float) -> None:
    none = np.empty((0, 4), np.float32)
    empty = np.zeros((120, 160, 3), np.uint8)
    drawn = Scene(empty, none, np.empty((0, 5, 2), np.float32), none)
    said = Faces(
        np.float32([[11, 11, 40, 40]]), np.full((1, 5, 2), 30, np.float32), np.float32([score])
    )
    found = heard(drawn, lambda _: said)
    learned, ignored = (said.boxes, none) if score > 0.6 else (none, said.boxes)
    np.testing.assert_array_equal(found.boxes, learned)
    assert len(found.landmarks) == len(learned)
    np.testing.assert_array_equal(found.ignored, ignored)


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.floats(10, 300), st.floats(0.7, 1.4), st.floats(0.2, 0.8), st.floats(0.2, 0.8)),
    st.integers(0, 1000),
)
def test_targets_decode_to_the_faces(face: tuple[float, float, float, float], seed: int) -> None:
    side, aspect, x, y = face
    size = np.array((side, side * aspect)) / np.sqrt(aspect)
    box = np.concatenate([np.array((320 * x, 240 * y)) - size / 2, size]).astype(np.float32)
    points = box[:2] + np.random.default_rng(seed).uniform(0, 1, (5, 2)).astype(np.float32) * size
    none = np.empty((0, 4), np.float32)
    states, values = targets(box[None], points[None], none, (240, 320), STRIDES)
    assert set(np.unique(states)) == {NOTHING, FACE}
    found = decode(_as_maps(states, values), STRIDES, 0.5)
    assert len(found) == 1
    np.testing.assert_allclose(found.boxes[0], box, atol=0.02)
    assert found.landmarks is not None
    np.testing.assert_allclose(found.landmarks[0], points, atol=0.02)


def _as_maps(states: np.ndarray, values: np.ndarray) -> list[np.ndarray]:
    """What a network would say that does just as it was told, for 240 x 320."""
    logits = np.where(states == FACE, 5.0, -5.0)
    flat, maps, start = np.column_stack([logits, values]), [], 0
    for stride in STRIDES:
        rows, columns = -(-240 // stride), -(-320 // stride)
        part = flat[start : start + rows * columns]
        maps.append(part.T.reshape(15, rows, columns).astype(np.float32))
        start += rows * columns
    assert start == len(flat)
    return maps


def test_nothing_is_said_where_the_teacher_has_doubts() -> None:
    none = np.empty((0, 4), np.float32)
    doubt = np.array([[64, 64, 40, 40]], np.float32)
    states, _ = targets(none, np.empty((0, 5, 2), np.float32), doubt, (240, 320), STRIDES)
    unsaid = cells((240, 320), 8)[states[: 30 * 40] == UNSAID]
    assert unsaid.min() >= 60 and unsaid.max() <= 108 and len(unsaid) >= 25
    answers = [torch.zeros(1, 15, -(-240 // s), -(-320 // s)) for s in STRIDES]
    value = torch.zeros(1, len(states), 14)
    with_doubt = losses(answers, torch.from_numpy(states)[None], value)["score"]
    without = losses(answers, torch.zeros(1, len(states), dtype=torch.int8), value)["score"]
    share = float((states == NOTHING).mean())
    assert with_doubt.item() == pytest.approx(share * without.item(), rel=1e-4)


def test_a_network_that_does_as_told_pays_little() -> None:
    box, points = np.array([[50, 60, 40, 50]], np.float32), np.full((1, 5, 2), 70, np.float32)
    states, values = targets(box, points, box[:0], (240, 320), STRIDES)
    maps = [torch.from_numpy(own)[None] for own in _as_maps(states, values)]
    told = torch.from_numpy(states)[None], torch.from_numpy(values)[None]
    right = losses(maps, *told)
    assert right["box"] < 1e-4 and right["landmarks"] < 1e-4 and right["score"] < 1e-3
    maps[1] = maps[1] + 0.3
    wrong = losses(maps, *told)
    assert wrong["box"] > 0.05 and wrong["landmarks"] > 0.05
