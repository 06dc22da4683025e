from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from export.training.kept_answers import RECORD, KeptAnswers


@pytest.fixture
def asked() -> list[int]:
    return []


@pytest.fixture
def pictures() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), np.uint8)


def kept(file: Path, asked: list[int]) -> KeptAnswers:
    def ask(pictures: np.ndarray) -> np.ndarray:
        asked.append(len(pictures))
        mean = pictures.mean((1, 2, 3), dtype=np.float32)
        return np.stack([mean, -mean], 1)

    return KeptAnswers(file, ask)


def right(pictures: np.ndarray) -> np.ndarray:
    mean = pictures.mean((1, 2, 3), dtype=np.float32)
    return np.stack([mean, -mean], 1)


def test_each_picture_is_asked_about_once(
    tmp_path: Path, asked: list[int], pictures: np.ndarray
) -> None:
    answers, file = kept(tmp_path / "deep" / "a.bin", asked), tmp_path / "deep" / "a.bin"
    np.testing.assert_array_equal(answers(pictures[:4]), right(pictures[:4]))
    assert asked == [4] and file.stat().st_size == 4 * RECORD.itemsize
    again = kept(file, asked)
    mixed = pictures[[5, 2, 2, 4, 0]]
    np.testing.assert_array_equal(again(mixed), right(mixed))
    assert asked == [4, 2]
    again = kept(file, asked)
    np.testing.assert_array_equal(again(pictures[::-1]), right(pictures[::-1]))
    assert asked == [4, 2]


def test_what_is_cut_short_is_asked_again(
    tmp_path: Path, asked: list[int], pictures: np.ndarray
) -> None:
    """And what is added behind it is found again."""
    file = tmp_path / "a.bin"
    kept(file, asked)(pictures[:3])
    with file.open("r+b") as content:
        content.truncate(3 * RECORD.itemsize - 5)
    answers = kept(file, asked)
    np.testing.assert_array_equal(answers(pictures), right(pictures))
    np.testing.assert_array_equal(kept(file, asked)(pictures), right(pictures))
    assert asked == [3, 4]


def test_two_add_to_one_file(tmp_path: Path, asked: list[int], pictures: np.ndarray) -> None:
    file = tmp_path / "a.bin"
    one, other = kept(file, asked), kept(file, asked)
    one(pictures[:3])
    other(pictures[3:])
    np.testing.assert_array_equal(kept(file, asked)(pictures), right(pictures))
    assert asked == [3, 3]


def test_without_room_all_are_asked(
    tmp_path: Path, asked: list[int], pictures: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    """What is kept saves time, and is no reason to end a training."""
    (tmp_path / "file").touch()
    answers = kept(tmp_path / "file" / "a.bin", asked)
    for _ in range(2):
        np.testing.assert_array_equal(answers(pictures), right(pictures))
    assert asked == [6, 6] and "answers are not kept" in caplog.text
    caplog.clear()
    full = kept(Path("/dev/full"), asked)
    np.testing.assert_array_equal(full(pictures), right(pictures))
    assert "answers are not kept" in caplog.text
