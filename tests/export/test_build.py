from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from export import recipe
from export.__main__ import main
from export.build import Places, annotated, build
from export.data import Pack
from export.train import train
from gender_edge import Classifier, DataError
from gender_edge.labelled import read_labelled


@pytest.fixture(scope="module")
def places(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Places:
    """The drawings with boxes already, so that no detector is needed."""
    home = tmp_path_factory.mktemp("build")
    boxed = home / "boxed"
    boxed.mkdir()
    lines = ["path,label,box"]
    lines += [f"{s.path},{s.label},1 5 50 50" for s in read_labelled(data / "faces")]
    (boxed / "faces").write_text("\n".join(lines))
    return Places(data=boxed, runs=home / "runs", models=home / "models")


@pytest.fixture(scope="module")
def built(places: Places, recipe_file: Path) -> list[str]:
    return build(recipe.load(str(recipe_file)), places, workers=0)


def test_splits_are_carved_and_disjoint(built: list[str], places: Places) -> None:
    samples = annotated("faces", places)
    by_split = {s: {x.path for x in samples if x.split == s} for s in ("train", "val", "test")}
    assert sum(len(v) for v in by_split.values()) == 240
    assert len(by_split["val"]) >= 20 and len(by_split["test"]) >= 24
    assert not by_split["train"] & by_split["val"] and not by_split["train"] & by_split["test"]


def test_what_is_shipped_works(built: list[str], places: Places, data: Path) -> None:
    assert built == ["tiny_fp32", "tiny_int8"]
    assert {p.name for p in places.models.iterdir()} == {*built, "registry.json"}
    samples = read_labelled(data / "faces")
    for name in built:
        home = places.models / name
        assert {p.name for p in home.iterdir()} == {"model.onnx", "evaluation.json", "card.md"}
        figures = json.loads((home / "evaluation.json").read_text())["sets"]["faces"]
        assert figures["balanced_accuracy"]["value"] > 0.9
        with Classifier(home / "model.onnx") as classifier:
            answers = classifier.in_frame(samples[0].path, [(1, 5, 50, 50)])
            assert classifier.spec.trained_on == ("faces:train",)
        assert answers[0].female > 0.5


def test_run_folder_tells_the_story(built: list[str], places: Places) -> None:
    run = places.runs / "tiny"
    rows = list(csv.DictReader((run / "metrics.csv").read_text().splitlines()))
    assert [row["size"] for row in rows] == ["24", "32"]
    assert float(rows[1]["loss"]) < float(rows[0]["loss"])
    assert json.loads((run / "config.json").read_text())["name"] == "tiny"
    for picture in ("curves.png", "int8/confusion.png"):
        assert (run / picture).read_bytes()[:4] == b"\x89PNG"


def test_a_finished_build_does_nothing_again(
    built: list[str], places: Places, recipe_file: Path
) -> None:
    def times() -> dict[Path, int]:
        made = [p for p in (places.runs / "tiny").rglob("*") if p.suffix in (".onnx", ".json")]
        return {p: p.stat().st_mtime_ns for p in made if p.name != "config.json"}

    before = times()
    build(recipe.load(str(recipe_file)), places, workers=0)
    assert times() == before


def test_onnx_answers_like_torch(built: list[str], places: Places, recipe_file: Path) -> None:
    """Workshop and runtime agree to 1e-4 on the same crops."""
    wanted = recipe.load(str(recipe_file))
    network = train(wanted, [], {}, places.runs / "tiny")
    with Classifier(places.models / "tiny_fp32" / "model.onnx") as classifier:
        images = [s.path for s in annotated("faces", places)[:40]]
        crops = np.stack([classifier.crop(i) for i in images])
        found = [p.female for p in classifier.predict(crops)]
        with torch.inference_mode():
            logits = network(torch.from_numpy(crops)) / classifier.spec.temperature
    np.testing.assert_allclose(found, logits.softmax(1)[:, 0], atol=1e-4)


def test_an_interrupted_training_ends_the_same(
    built: list[str], places: Places, recipe_file: Path, tmp_path: Path
) -> None:
    wanted = recipe.load(str(recipe_file))
    packs = [Pack(places.runs / "data" / "faces-train")]

    class InterruptionError(Exception):
        pass

    class StopsAfterOneEpoch(dict[str, Pack]):
        def items(self):  # type: ignore[no-untyped-def]
            if (tmp_path / "run" / "metrics.csv").exists():
                raise InterruptionError
            return {"faces": packs[0]}.items()

    with pytest.raises(InterruptionError):
        train(wanted, packs, StopsAfterOneEpoch(), tmp_path / "run", workers=0)
    train(wanted, packs, {"faces": packs[0]}, tmp_path / "run", workers=0)
    whole = load_file(places.runs / "tiny" / "weights.safetensors")
    resumed = load_file(tmp_path / "run" / "weights.safetensors")
    for key, value in whole.items():
        torch.testing.assert_close(resumed[key], value, rtol=1e-3, atol=1e-3)


def test_command_line_errors(
    data: Path, recipe_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["--data", str(data), "--runs", str(tmp_path), "--models", str(tmp_path)]
    assert main(["build", str(recipe_file), *common]) == 2
    assert "--detector" in capsys.readouterr().err
    assert main(["build", "none", *common]) == 2
    assert "no recipe 'none'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [("sizes = []\nnovelty = 1", "novelty"), ("", "missing")],
)
def test_bad_recipes(tmp_path: Path, change: str, message: str) -> None:
    path = tmp_path / "a.toml"
    path.write_text(f'name = "a"\n{change}')
    with pytest.raises(DataError, match=message):
        recipe.load(str(path))


def test_shipped_recipes_load() -> None:
    names = [p.stem for p in recipe.FOLDER.glob("*.toml")]
    assert names
    for name in names:
        wanted = recipe.load(name)
        assert wanted.name == name
        trained = {(s.list, s.split) for s in (*wanted.train, *wanted.validate)}
        assert not trained & {(s.list, s.split) for s in wanted.test}
        assert not any("lfw" in where or split == "test" for where, split in trained)
