from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import storage
from gender_edge import GenderEdgeError


def test_a_run_of_another_kind_overwrites_no_result(result: dict[str, Any], tmp_path: Path) -> None:
    def place(of: dict[str, Any]) -> Path:
        return storage.own_place(of, tmp_path)

    first = place(result)
    storage.write(first, result)
    assert place(result) == first
    one_thread = {**result, "settings": {**result["settings"], "threads": 1}}
    with_peers = {**result, "variants": [*result["variants"], {"kind": "peer"}]}
    places = {first, place(one_thread), place(with_peers)}
    assert len(places) == 3 and {p.parent for p in places} == {tmp_path}
    first.write_text("{")
    assert place(result) != first, "what is damaged may be mended"


def test_a_result_is_read_as_it_was_written(result: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "new" / "a.json"
    storage.write(file, result)
    assert storage.read(file) == result
    assert [p.name for p in file.parent.iterdir()] == ["a.json"]


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", "3", json.dumps({"machine": {}})])
def test_what_is_no_result_is_said(content: str, tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text(content)
    with pytest.raises(GenderEdgeError, match=r"a\.json: no result of benchmarks/run\.py"):
        storage.read(file)
    with pytest.raises(GenderEdgeError, match=r"gone\.json: no result"):
        storage.read(tmp_path / "gone.json")
