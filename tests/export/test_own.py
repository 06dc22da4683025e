from __future__ import annotations

import json
from pathlib import Path

import pytest

from export import own
from export.__main__ import main
from gender_edge import Classifier, zoo
from gender_edge.labelled import read_labelled
from tests.conftest import ROOT


def test_one_command(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """From a list to a shipped variant and its report, beside the package's own models."""
    lines = [f"{s.path},{s.label},1 5 50 50" for s in read_labelled(data / "faces")[::2]]
    (tmp_path / "mine.csv").write_text("\n".join(["path,label,box", *lines]))
    registry = (ROOT / "models" / "registry.json").read_text()
    monkeypatch.chdir(tmp_path)
    argv = ["build", "--data", "mine.csv", "--name", "mine", "--runs", "runs", "--epochs", "1"]
    assert main([*argv, "--workers", "0"]) == 0
    said = capsys.readouterr().out
    home = tmp_path / "own_models" / "mine_int8"
    assert f"card: {home.relative_to(tmp_path)}/card.md" in said and (home / "card.md").exists()
    assert f"{(home / 'model.onnx').stat().st_size:,} bytes, 92,603,008 mult" in said
    assert "mine: balanced accuracy" in said
    with Classifier(home / "model.onnx") as classifier:
        assert classifier.spec.trained_on == ("mine:train",)
        assert classifier.spec.origin == ""
    assert json.loads((tmp_path / "own_models" / "registry.json").read_text())["default"]
    assert json.loads((tmp_path / "runs/mine/config.json").read_text())["batch_size"] < 10
    assert (ROOT / "models" / "registry.json").read_text() == registry


def test_a_set_that_is_not_there_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Though one of that name was prepared before."""
    (tmp_path / "runs/data/faces").mkdir(parents=True)
    (tmp_path / "runs/data/faces/annotated.csv").write_text("path,label\n")
    argv = ["build", "--data", str(tmp_path / "new/faces"), "--runs", str(tmp_path / "runs")]
    assert main(argv) == 2
    assert "no such file or folder; check the path after --data" in capsys.readouterr().err


def test_from_a_shipped_model(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its network, taught on with somebody's pictures; its terms stay."""
    lines = [f"{s.path},{s.label},1 5 50 50" for s in read_labelled(data / "faces")[::3]]
    (tmp_path / "mine.csv").write_text("\n".join(["path,label,box", *lines]))
    monkeypatch.chdir(tmp_path)
    argv = ["build", "--data", "mine.csv", "--runs", "runs", "--epochs", "1", "--workers", "0"]
    assert main([*argv, "--init", "shipped:slim_gray_p86_int8"]) == 0
    before = zoo.entry("slim_gray_p86_int8")
    with Classifier("own_models/own_int8/model.onnx") as classifier:
        spec = classifier.spec
    assert spec.macs == before.evaluation["spec"]["macs"] and spec.grayscale
    assert "of the labelled pictures; those of slim_gray_p86_int8: non-commercial" in spec.license
    assert "trained on celeba_trainval:train" in spec.origin and "HSE-FaceRes" in spec.origin
    assert main([*argv, "--init", "shipped:slim_p75"]) == 2
    assert "no shipped model 'slim_p75'" in capsys.readouterr().err


def test_the_summary_says_the_worst_group() -> None:
    home = ROOT / "models" / "slim_int8"
    said = own.summary(home)
    sets = json.loads((home / "evaluation.json").read_text())["sets"]
    assert said.count("balanced accuracy") == len(sets)
    card = (home / "card.md").read_text()
    worst = card.split("utkface, worst group: ")[1].split(",")[0]
    assert f"worst group: {worst}, " in said
