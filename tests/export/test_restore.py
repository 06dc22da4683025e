from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch

from export import recipe
from export.__main__ import main
from export.data.packs import even_crops
from export.data.prepare import Places, learned_from
from export.files import digest
from export.provenance import began_with
from export.recipe import Recipe
from export.restore import restore
from export.runs import WEIGHTS, config, finished, trained_size
from export.training.shipped import PROBES, read
from export.training.train import train
from gender_edge import Classifier, DataError

GRAY = {"name": "tiny_gray", "grayscale": True}


@pytest.fixture
def elsewhere(built: Sequence[str], places: Places, tmp_path: Path) -> Places:
    """The same data and shipped models, and no run folder."""
    return replace(places, runs=tmp_path / "runs")


def crops_of(wanted: Recipe, places: Places) -> torch.Tensor:
    packs, _ = learned_from(wanted, places)
    return torch.from_numpy(even_crops(packs, PROBES, wanted.input_size))


def apart(a: torch.nn.Module, b: torch.nn.Module, pixels: torch.Tensor) -> float:
    with torch.inference_mode():
        answers = [torch.softmax(own(pixels), 1) for own in (a, b)]
    return float((answers[0] - answers[1]).abs().max())


@pytest.mark.parametrize("precisions", [("fp32", "int8"), ("int8",)])
def test_the_restored_network_answers_as_the_one_that_was_lost(
    recipe_file: Path, places: Places, elsewhere: Places, tmp_path: Path, precisions: tuple[str]
) -> None:
    wanted = recipe.load(str(recipe_file))
    shipped = tmp_path / "models"
    shipped.mkdir()
    for precision in precisions:
        (shipped / f"tiny_{precision}").symlink_to(places.models / f"tiny_{precision}")
    run = restore(wanted, replace(elsewhere, models=shipped))
    lost, found = finished(places.runs / "tiny"), finished(run)
    pixels = crops_of(wanted, elsewhere)
    assert apart(lost, found, pixels) < (1e-4 if "fp32" in precisions else 0.05)
    for precision in precisions:
        assert json.loads((run / precision / "evaluation.json").read_text())["sets"]


def test_training_goes_on_from_it_as_from_the_one_that_was_lost(
    recipe_file: Path, places: Places, elsewhere: Places
) -> None:
    """Normalised by what a batch gives, it still answers alike; with what files have left of
    BatchNorm it would not.
    """
    wanted = recipe.load(str(recipe_file))
    found = finished(restore(wanted, elsewhere))
    found.trunk.dropout.p = 0.0
    pixels = crops_of(wanted, elsewhere)
    assert apart(found.eval(), deepcopy(found).train(), pixels) < 0.05
    bare = read(wanted, onnx.load(elsewhere.models / "tiny_fp32" / "model.onnx"), "tiny_fp32")
    bare.trunk.dropout.p = 0.0
    assert apart(bare.eval(), deepcopy(bare).train(), pixels) > 0.2
    packs, validation = learned_from(wanted, elsewhere)
    after = replace(wanted, name="after", init="run:tiny", teachers=("tiny",))
    train(after, packs, validation, elsewhere.runs / "after", workers=0)
    assert began_with(elsewhere.runs / "after", elsewhere.runs / "tiny")


def test_other_widths_than_the_recipe_s_come_from_the_file(
    recipe_file: Path, places: Places, elsewhere: Places
) -> None:
    """As pruned ones have."""
    other = {"stem": 4, "widths": [[6], [10]]}
    wanted = replace(recipe.load(str(recipe_file)), arguments=other)
    run = restore(wanted, elsewhere)
    assert config(run)["arguments"] == {"stem": 8, "widths": [[8], [16]]}


def test_its_pictures_have_the_size_of_the_file(recipe_file: Path, elsewhere: Places) -> None:
    """Which may be of an earlier form of the recipe."""
    wanted = replace(recipe.load(str(recipe_file)), input_size=24)
    assert trained_size(restore(wanted, elsewhere)) == 32


def test_int8_is_made_anew_of_what_is_shipped(
    recipe_file: Path, elsewhere: Places, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the run that made it; the FP32 file stays, and so does what it was compared with."""
    shipped = tmp_path / "models"
    shutil.copytree(elsewhere.models, shipped)
    exact, report = shipped / "tiny_fp32" / "model.onnx", shipped / "tiny_int8" / "evaluation.json"
    exact_before, before = exact.read_bytes(), json.loads(report.read_text())
    (shipped / "tiny_int8" / "model.onnx").write_bytes(b"of an earlier way to round")
    places = ["--data", str(elsewhere.data), "--runs", str(elsewhere.runs)]
    requantize = ["requantize", str(recipe_file), *places, "--models", str(shipped)]
    assert main(requantize) == 0
    assert "shipped" in capsys.readouterr().out
    again = elsewhere.runs / "tiny" / "int8.onnx"
    again.write_bytes(b"of an earlier way to round")
    assert main(requantize) == 0
    assert again.read_bytes() != b"of an earlier way to round"
    assert exact.read_bytes() == exact_before
    after = json.loads(report.read_text())
    assert [(r["name"], r["why"]) for r in after["against"]] == [
        (r["name"], r["why"]) for r in before["against"]
    ]
    assert after["sets"].keys() == before["sets"].keys() and after["twin"] == before["twin"]
    entry = json.loads((shipped / "registry.json").read_text())["models"]["tiny_int8"]
    assert entry["sha256"] == digest(shipped / "tiny_int8" / "model.onnx")
    with Classifier(shipped / "tiny_int8" / "model.onnx", device="onnxruntime") as classifier:
        assert classifier.spec.precision == "int8"


def test_it_is_not_taken_for_what_the_recipe_trains(
    recipe_file: Path, elsewhere: Places, capsys: pytest.CaptureFixture[str]
) -> None:
    run = restore(recipe.load(str(recipe_file)), elsewhere)
    places = ["--data", str(elsewhere.data), "--runs", str(elsewhere.runs)]
    assert main(["build", str(recipe_file), *places, "--models", str(run)]) == 2
    assert "was restored from shipped files; remove that folder to train anew" in (
        capsys.readouterr().err
    )


def test_what_cannot_be_restored(recipe_file: Path, places: Places, elsewhere: Places) -> None:
    wanted = recipe.load(str(recipe_file))
    deeper = {"stem": 8, "widths": [[8, 8], [16]]}
    for arguments in (deeper, {"stem": 8, "widths": [[8]]}):
        with pytest.raises(DataError, match="has other layers than slim"):
            restore(replace(wanted, arguments=arguments), elsewhere)
    with pytest.raises(DataError, match="no model other_fp32 or other_int8 to restore"):
        restore(replace(wanted, name="other"), elsewhere)
    assert not elsewhere.runs.joinpath("tiny", WEIGHTS).exists()
    restore(wanted, elsewhere)
    with pytest.raises(DataError, match="is there already; remove that folder"):
        restore(wanted, elsewhere)


def test_weights_that_answer_otherwise_are_refused(
    recipe_file: Path, elsewhere: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a file whose pixels another normalisation goes before."""
    wanted = replace(recipe.load(str(recipe_file)), architecture="slim")
    monkeypatch.setattr("export.architectures.slim.Slim.scale", 1 / 16)
    with pytest.raises(DataError, match="answers otherwise"):
        restore(wanted, elsewhere)


def test_from_the_command_line(
    recipe_file: Path, elsewhere: Places, capsys: pytest.CaptureFixture[str]
) -> None:
    places = ["--data", str(elsewhere.data), "--runs", str(elsewhere.runs)]
    call = ["restore", str(recipe_file), *places, "--models", str(elsewhere.models)]
    assert main(call) == 0
    assert "restored" in capsys.readouterr().out
    assert main(call) == 2
    assert "is there already" in capsys.readouterr().err
