from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gender_edge import CropRule, ImageError, cropping

RULE = CropRule()


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (48, 40, 3), np.uint8)


@given(
    scale=st.floats(5, 500),
    angle=st.floats(-3.1, 3.1),
    shift=arrays(float, 2, elements=st.floats(-1000, 1000)),
)
def test_alignment_undoes_any_similarity(scale: float, angle: float, shift: np.ndarray) -> None:
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    template = np.array(RULE.landmarks)
    points = template @ (scale * turn).T + shift
    matrix = cropping.aligned_matrix(points, RULE)
    found = points @ matrix[:, :2].T + matrix[:, 2]
    np.testing.assert_allclose(found, template, atol=1e-6)


def test_alignment_is_the_least_squares_similarity() -> None:
    """Nudging any of the four parameters must not bring noisy points closer."""
    rng = np.random.default_rng(1)
    points = np.array(RULE.landmarks) * 80 + rng.normal(0, 3, (5, 2))
    matrix = cropping.aligned_matrix(points, RULE)

    def error(m: np.ndarray) -> float:
        return float(((points @ m[:, :2].T + m[:, 2] - RULE.landmarks) ** 2).sum())

    best = error(matrix)
    directions = [[[1, 0, 0], [0, 1, 0]], [[0, -1, 0], [1, 0, 0]], [[0, 0, 1], [0, 0, 0]]]
    for direction in (*directions, [[0, 0, 0], [0, 0, 1]]):
        for step in (1e-4, -1e-4):
            assert error(matrix + step * np.array(direction)) > best


BAD_BOXES = [
    (0, 0, 1e200, 1e200),
    (1, 2, 0, 5),
    (1, 2, 3),
    (1, 2, np.nan, 4),
    (0, 0, -3, 4),
    "box",
    {},
    [1, [2], 3, 4],
]


@pytest.mark.parametrize("box", BAD_BOXES)
def test_bad_boxes_are_refused(box: Any) -> None:
    with pytest.raises(ImageError, match="box"):
        cropping.box_matrix(box, RULE)


def test_bad_landmarks_are_refused() -> None:
    with pytest.raises(ImageError, match="coincide"):
        cropping.aligned_matrix(np.ones((5, 2)), RULE)
    with pytest.raises(ImageError, match="finite numbers"):
        cropping.aligned_matrix(np.ones((4, 2)), RULE)
    for factor in (1e8, 1e200):
        with pytest.raises(ImageError, match="none beyond 1000000"):
            cropping.aligned_matrix(np.array(RULE.landmarks) * factor, RULE)


@pytest.mark.parametrize("angle", [0.0, 0.5, 3.0])
@pytest.mark.parametrize(
    "wrong",
    [
        lambda face: face[[1, 0, 2, 4, 3]],  # the person's left first
        lambda face: face[:, ::-1],  # y before x
        lambda face: face * (-1, 1),
    ],
)
def test_landmarks_that_lie_as_no_face_does_are_refused(wrong: Any, angle: float) -> None:
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    face = 90 * np.array(RULE.landmarks) @ turn + 40
    cropping.aligned_matrix(face, RULE)
    with pytest.raises(ImageError, match="lie as no face's do"):
        cropping.aligned_matrix(wrong(face), RULE)


def test_a_face_in_profile_has_landmarks() -> None:
    points = 90 * np.array(RULE.landmarks)
    middle = points[:, 0].mean()
    points[:, 0] = middle + 0.1 * (points[:, 0] - middle)
    assert np.isfinite(cropping.aligned_matrix(points, RULE)).all()


@pytest.mark.parametrize("side", [31, 64, 100, 333, 1000])
def test_cut_keeps_positions_at_any_scale(side: int) -> None:
    """A horizontal ramp stays a ramp, not shifted by half a pixel, however much it is shrunk."""
    ramp = np.tile(np.linspace(0, 255, side)[None, :, None], (side, 1, 3)).astype(np.uint8)
    crop = cropping.cut(ramp, cropping.whole_matrix(ramp.shape), 32, 0)
    expected = (np.arange(32) + 0.5) / 32 * 255
    inner = slice(2, -2)
    np.testing.assert_allclose(crop[16, inner, 0], expected[inner], atol=255 / min(side, 60))


@pytest.mark.parametrize(("side", "tolerance"), [(640, 1), (500, 25), (300, 50), (2000, 10)])
def test_cut_does_not_alias(side: int, tolerance: int) -> None:
    """One-pixel stripes shrunk many times are near grey; a bare warp would leave 127."""
    stripes = np.zeros((side, side, 3), np.uint8)
    stripes[:, ::2] = 255
    crop = cropping.cut(stripes, cropping.whole_matrix(stripes.shape), 64, 0)
    assert np.abs(crop.astype(int) - 127).max() <= tolerance


def test_cut_fills_what_lies_outside(picture: np.ndarray) -> None:
    crop = cropping.cut(picture, cropping.box_matrix((-20, -20, 30, 30), RULE), 16, 127)
    assert (crop[:8, :8] == 127).all()
    assert (crop[-4:, -4:] != 127).any()


@pytest.mark.parametrize(
    "box",
    [
        (-200, -200, 30, 30),
        (500, 0, 9, 9),
        (0.3, 0.1, 0.2, 0.25),
        (0, 0, 1e5, 1e5),  # the picture would be a pixel of it
        (-31, 0, 32, 32),  # touches it
    ],
)
def test_cut_refuses_what_is_not_in_the_picture(picture: np.ndarray, box: Any) -> None:
    with pytest.raises(ImageError, match="does not lie in the 40x48 picture"):
        cropping.cut(picture, cropping.box_matrix(box, RULE), 16, 127)


@pytest.mark.parametrize(("width", "side"), [(10, 10), (40, 20), (90, 20), (4000, 20)])
def test_whole_takes_the_square_of_its_area(width: int, side: int) -> None:
    """About the centre; the columns that a square of that side holds are 200, the others 90."""
    wide = np.full((10, width, 3), 90, np.uint8)
    start = (width - min(side, width)) // 2
    wide[:, start : start + side] = 200
    for picture in (wide, wide.transpose(1, 0, 2)):
        crop = cropping.cut(picture, cropping.whole_matrix(picture.shape), side, 0)
        crop = crop if picture is wide else crop.transpose(1, 0, 2)
        bar = (side - 10) // 2
        assert (crop[bar : side - bar] == 200).all()
        assert not crop[:bar].any() and not crop[side - bar :].any()


def test_a_crop_without_area_is_told() -> None:
    with pytest.raises(ImageError, match="has no size"):
        cropping.cut(np.zeros((50, 50, 3), np.uint8), np.zeros((2, 3)), 32, 127)
