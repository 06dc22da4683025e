from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from benchmarks import command_line, records
from benchmarks.run import main
from gender_edge import choose, host, zoo


def _result() -> dict[str, Any]:
    row = {"name": zoo.default(), "engine": "onnxruntime", "kind": "variant"}
    return {
        "threads": None,
        "settings": {"clock": "network", "batches": [1, 8]},
        "variants": [
            {**row, "batches": [{"batch": 1, "p50_ms": 0.5}]},
            {**row, "name": "peer", "kind": "peer", "batches": [{"batch": 1, "p50_ms": 0.1}]},
            {**row, "engine": "openvino", "error": "no"},
        ],
    }


def test_what_is_recorded_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By this machine's engine; recorded anew, it is replaced; other machines' stay."""
    entry = zoo.entry(zoo.default())
    shutil.copytree(zoo.folder(), tmp_path / "models")
    (tmp_path / "models" / choose.TIMINGS).unlink(missing_ok=True)
    monkeypatch.setattr(zoo, "folder", lambda: tmp_path / "models")
    assert choose.records() == []
    for time in (0.5, 0.25):
        result = _result()
        result["variants"][0]["batches"][0]["p50_ms"] = time
        records.record(result)
    (found,) = choose.records()
    assert found["p50_ms"] == {entry.sha256[:16]: 0.25}
    assert found["host"] == host.identity("onnxruntime")
    monkeypatch.setattr(zoo, "names", lambda: [zoo.default()])
    ((taken,), _) = choose.candidates("onnxruntime")
    assert taken.recorded and taken.latency_ms == 0.25


def test_a_nameless_processor_is_told_before_the_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(host, "processor", lambda: None)
    with pytest.raises(SystemExit):
        command_line.parse(["--record"])
    assert "does not tell its processor's name" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--threads=1", "--clock=crop", "--batches=8"])
def test_other_conditions_are_not_recorded(option: str) -> None:
    with pytest.raises(SystemExit):
        main(["--record", option])
