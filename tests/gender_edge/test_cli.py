from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from gender_edge import zoo
from gender_edge.cli import main


@pytest.fixture
def folder(tmp_path: Path, face: np.ndarray) -> Path:
    for name in ("female/a.png", "female/b.jpg", "male/c.png"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), face)
    return tmp_path / "photos"


def rows(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def test_classify_folder_as_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["classify", str(folder), "--json"]) == 0
    found = rows(capsys.readouterr().out)
    assert [Path(str(r["path"])).name for r in found] == ["a.png", "b.jpg", "c.png"]
    assert all(set(r) == {"path", "label", "female", "confidence"} for r in found)


def test_classify_glob_and_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    glob, file = str(folder / "**" / "*.png"), str(folder / "female" / "b.jpg")
    assert main(["classify", glob, file]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_one_bad_file_costs_one_row(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "male" / "bad.jpg").write_text("not a picture")
    assert main(["classify", str(folder), "--json"]) == 1
    captured = capsys.readouterr()
    found = rows(captured.out)
    assert len(found) == 4
    assert ["error" in r for r in found] == [False, False, True, False]
    assert "1 of 4" in captured.err


def test_nothing_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["classify", str(tmp_path)]) == 2
    assert main(["classify", str(tmp_path / "a.jpg")]) == 2
    assert main(["classify", str(tmp_path / "*.jpg")]) == 2
    assert main(["classify", "x.jpg", "--model", "none"]) == 2
    assert "no shipped model 'none'" in capsys.readouterr().err


def test_box(portrait_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["classify", str(portrait_path), "--box", "178,63,90,113", "--json"]) == 0
    assert rows(capsys.readouterr().out)[0]["label"] in ("female", None)
    with pytest.raises(SystemExit):
        main(["classify", str(portrait_path), "--box", "1,2"])


def test_models(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    table = capsys.readouterr().out
    assert all(name in table for name in zoo.names())
    assert table.count("(default)") == 1
    assert main(["models", "--json"]) == 0
    found = rows(capsys.readouterr().out)
    assert [r["name"] for r in found] == zoo.names()


def test_evaluate(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(folder), "--json"]) == 0
    figures = rows(capsys.readouterr().out)[0]
    assert (figures["faces"], figures["female"]) == (3, 2)
    assert main(["evaluate", str(folder)]) == 0
    assert "balanced" in capsys.readouterr().out
    assert main(["evaluate", str(folder), "--split", "val"]) == 2


def test_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    assert "CPUExecutionProvider" in capsys.readouterr().out
    assert main(["doctor", "--json"]) == 0
    (found,) = rows(capsys.readouterr().out)
    assert found["shipped models"] == zoo.names()
    assert "onnxruntime" in found["packages"]  # type: ignore[operator]
    assert zoo.default() in str(found["default"])


def test_usage_errors_exit_2(capsys: pytest.CaptureFixture[str]) -> None:
    for argv in ([], ["classify"], ["classify", "a", "--batch", "0"]):
        with pytest.raises(SystemExit) as stop:
            main(argv)
        assert stop.value.code == 2
    capsys.readouterr()
