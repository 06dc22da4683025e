from __future__ import annotations

from pathlib import Path

import pytest

from export.files import replacing, write


def test_two_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    """As of trainings that prepare the same set: whole files, the later one stays."""
    target = tmp_path / "made" / "a.txt"
    with replacing(target) as first, replacing(target) as second:
        first.write_text("first, which is longer")
        second.write_text("second")
        assert not target.exists()
    assert target.read_text() == "first, which is longer"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_an_interruption_leaves_what_was_there(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "a"
    write(target, "before")
    with pytest.raises(KeyboardInterrupt), replacing(target) as partial:
        if kind == "folder":
            partial.mkdir()
        (partial / "inside" if kind == "folder" else partial).write_text("half")
        raise KeyboardInterrupt
    assert target.read_text() == "before"
    assert list(tmp_path.iterdir()) == [target]
