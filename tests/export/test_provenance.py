from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from export import recipe
from export.data.findings import COLUMNS
from export.data.packs import Pack, pack
from export.data.prepare import Places
from export.provenance import NOTE, began_with
from export.recipe import Recipe
from export.runs import BUILT, finished, save_weights
from export.training.train import train
from gender_edge import DataError

KINDS = {"init": {"init": "run:tiny"}, "teacher": {"teachers": ("tiny",)}}


@pytest.fixture
def runs(built: list[str], places: Places, tmp_path: Path) -> Path:
    """A folder of runs with the tiny one in it."""
    shutil.copytree(places.runs / "tiny", tmp_path / "runs" / "tiny")
    return tmp_path / "runs"


@pytest.fixture
def packs(built: list[str], places: Places, tmp_path: Path) -> list[Pack]:
    samples = Pack(places.runs / "data" / "faces-val").samples
    return [pack(samples, tmp_path / "faces-train")]


def retrain(run: Path) -> None:
    state = {name: own + 1 for name, own in finished(run).state_dict().items()}
    save_weights(state, run / "weights.safetensors")


def child(recipe_file: Path, kind: str) -> Recipe:
    tiny = recipe.load(str(recipe_file))
    return replace(tiny, name="child", sizes=(16,), **KINDS[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_does_not_go_on_from_other_weights(
    recipe_file: Path, runs: Path, packs: list[Pack], kind: str
) -> None:
    wanted, run = child(recipe_file, kind), runs / "child"
    train(wanted, packs, {"faces": packs[0]}, run, workers=0)
    assert began_with(run, runs / "tiny")
    train(wanted, packs, {}, run, workers=0)
    retrain(runs / "tiny")
    assert not began_with(run, runs / "tiny")
    with pytest.raises(DataError, match=rf"{run}: .* the weights of tiny .*; remove that folder"):
        train(wanted, packs, {}, run, workers=0)
    (run / NOTE).unlink()  # as before it was noted, or because the user wants it
    train(wanted, packs, {}, run, workers=0)
    assert not (run / NOTE).exists() and not began_with(run, runs / "tiny")


def test_a_run_does_not_go_on_with_other_pictures(
    recipe_file: Path, runs: Path, packs: list[Pack]
) -> None:
    wanted, run = child(recipe_file, "init"), runs / "child"
    train(wanted, packs, {"faces": packs[0]}, run, workers=0)
    named = [replace(s, identity="somebody") for s in packs[0].samples]
    train(wanted, [pack(named, packs[0].folder)], {}, run, workers=0)
    with pytest.raises(DataError, match=r"was begun when the faces of faces-train were others"):
        unknown = [replace(s, box=None) for s in packs[0].samples]
        train(wanted, [pack(unknown, packs[0].folder)], {}, run, workers=0)
    with pytest.raises(DataError, match=r"the faces .* the pictures .* the pixels .* were others"):
        train(wanted, [pack(packs[0].samples[1:], packs[0].folder)], {}, run, workers=0)


def test_a_run_is_not_taught_on_by_another_int8_file(
    recipe_file: Path, runs: Path, packs: list[Pack]
) -> None:
    """Which are what teachers of views answer with, and no others."""
    wanted, run = child(recipe_file, "teacher"), runs / "child"
    watching = replace(wanted, name="watching", teachers_see="views")
    for own in (wanted, watching):
        train(own, packs, {"faces": packs[0]}, runs / own.name, workers=0)
        train(own, packs, {}, runs / own.name, workers=0)
    file = runs / "tiny" / BUILT
    model = onnx.load(file)
    model.metadata_props.add(key="note", value="other words in a card")
    onnx.save(model, file)
    train(watching, packs, {}, runs / "watching", workers=0)
    model.graph.initializer[0].raw_data = bytes(len(model.graph.initializer[0].raw_data))
    onnx.save(model, file)
    train(wanted, packs, {}, run, workers=0)
    with pytest.raises(DataError, match=r"watching: .* the INT8 file of tiny .*; remove that"):
        train(watching, packs, {}, runs / "watching", workers=0)


def test_a_teacher_does_not_change_from_float_to_int8(
    recipe_file: Path, runs: Path, packs: list[Pack]
) -> None:
    """One without an INT8 file answers in float, to the end."""
    file = runs / "tiny" / BUILT
    content = file.read_bytes()
    file.unlink()
    wanted = replace(child(recipe_file, "teacher"), teachers_see="views")
    train(wanted, packs, {"faces": packs[0]}, runs / "child", workers=0)
    train(wanted, packs, {}, runs / "child", workers=0)
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"child: .* the INT8 file of tiny .*; remove that"):
        train(wanted, packs, {}, runs / "child", workers=0)


def test_a_run_does_not_begin_without_its_teacher(
    recipe_file: Path, runs: Path, packs: list[Pack]
) -> None:
    shutil.rmtree(runs / "tiny")
    with pytest.raises(DataError, match="tiny: no finished run"):
        train(child(recipe_file, "teacher"), packs, {}, runs / "child", workers=0)
    assert not (runs / "child").exists()


def test_a_run_keeps_to_its_list_of_findings(
    recipe_file: Path, runs: Path, packs: list[Pack]
) -> None:
    listed, run = runs / "findings.csv", runs / "child"
    listed.write_text(",".join(COLUMNS) + "\n")
    wanted = replace(child(recipe_file, "init"), clean=listed.name)
    train(wanted, packs, {"faces": packs[0]}, run, workers=0)
    content = listed.read_text()
    listed.write_text(content + "elsewhere,train,a.png,male,label,0.5,,1\n")
    with pytest.raises(DataError, match="was begun when the list of findings were others"):
        train(wanted, packs, {}, run, workers=0)
    listed.unlink()  # of no account to a run that is finished
    train(wanted, packs, {}, run, workers=0)
