from __future__ import annotations

from pathlib import Path

import pytest

from gender_edge import BackendError, caching


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(caching.CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_file_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a"
    caching.write_whole(path, b"one")
    caching.write_whole(path, b"two")
    assert path.read_bytes() == b"two" and list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_written_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.mkdir()
    with pytest.raises(BackendError, match=f"taken: cannot be written.*{caching.CACHE_VARIABLE}"):
        caching.write_whole(taken, b"one")
    assert list(tmp_path.iterdir()) == [taken]


def test_a_lock_that_cannot_be_had_is_told(cache: Path, tmp_path: Path) -> None:
    with caching.locked(tmp_path / "a"):
        (lock,) = (cache / "locks").iterdir()
    lock.unlink()
    lock.mkdir()
    with pytest.raises(BackendError, match="cannot be written"), caching.locked(tmp_path / "a"):
        pass
    (cache / "locks" / lock.name).rmdir()
    (cache / "locks").rmdir()
    (cache / "locks").touch()
    with pytest.raises(BackendError, match="cannot be made"), caching.locked(tmp_path / "a"):
        pass
