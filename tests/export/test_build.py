from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from export import graph, recipe
from export.__main__ import main
from export.build import Places, build, train_step
from export.compression.int8 import sensitivity
from export.data.packs import Pack, even_crops
from export.data.prepare import annotated
from export.runs import finished
from export.training import train as training
from export.training.lessons import Lessons
from export.training.train import train
from export.validate import by_file, validate
from gender_edge import Classifier, DataError
from gender_edge.labelled import read_labelled


def test_splits_are_carved(built: list[str], places: Places) -> None:
    """Of 240 drawings, less copies: a tenth for test, a tenth of the rest for validation."""
    samples = annotated("faces", places)
    count = {split: sum(s.split == split for s in samples) for split in ("train", "val", "test")}
    assert 225 <= sum(count.values()) <= 240
    assert 22 <= count["test"] <= 30 and 18 <= count["val"] <= 28


def test_what_is_shipped_works(built: list[str], places: Places, data: Path) -> None:
    assert built == ["tiny_fp32", "tiny_int8"]
    assert {p.name for p in places.models.iterdir()} == {*built, "registry.json"}
    samples = read_labelled(data / "faces")
    for name in built:
        home = places.models / name
        assert {p.name for p in home.iterdir()} == {"model.onnx", "evaluation.json", "card.md"}
        figures = json.loads((home / "evaluation.json").read_text())["sets"]["faces"]
        assert figures["balanced_accuracy"]["value"] > 0.8
        with Classifier(home / "model.onnx") as classifier:
            answers = classifier.in_frame(samples[0].path, [(1, 5, 50, 50)])
            assert classifier.spec.trained_on == ("faces:train",)
        assert answers[0].female > 0.5
        assert ("Against tiny_fp32, its weights before INT8" in (home / "card.md").read_text()) == (
            name == "tiny_int8"
        )
        content = json.loads((home / "evaluation.json").read_text())
        assert content["validation"] == {"sets": ["faces:val"], "abstain_error": 0.02}


def test_a_test_set_of_one_label_is_told_before_training(
    places: Places, recipe_file: Path, tmp_path: Path
) -> None:
    lines = [f"{s.path},{s.label},{s.split},1 5 50 50" for s in annotated("faces", places)]
    women = [line for line in lines if ",male,test," not in line]
    (tmp_path / "faces").write_text("\n".join(["path,label,split,box", *women]))
    own = replace(places, data=tmp_path, runs=tmp_path / "runs")
    with pytest.raises(DataError, match="'test': has female faces; expected"):
        build(recipe.load(str(recipe_file)), own, workers=0)
    assert not (own.runs / "tiny").exists()


def test_run_folder_tells_the_story(built: list[str], places: Places) -> None:
    run = places.runs / "tiny"
    rows = list(csv.DictReader((run / "metrics.csv").read_text().splitlines()))
    assert [row["size"] for row in rows] == ["24", "32"]
    assert float(rows[1]["loss"]) < float(rows[0]["loss"])
    assert json.loads((run / "config.json").read_text())["name"] == "tiny"
    for picture in ("curves.png", "int8/confusion.png", "int8/certainty.png"):
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


def test_onnx_answers_like_torch(built: list[str], places: Places) -> None:
    """Workshop and runtime agree to 1e-4 on the same crops."""
    network = finished(places.runs / "tiny")
    with Classifier(places.models / "tiny_fp32" / "model.onnx", device="onnxruntime") as classifier:
        images = [s.path for s in annotated("faces", places)[:40]]
        crops = np.stack([classifier.crop(i) for i in images])
        found = [p.female for p in classifier.predict(crops)]
        with torch.inference_mode():
            logits = network(torch.from_numpy(crops)) / classifier.spec.temperature
    np.testing.assert_allclose(found, logits.softmax(1)[:, 0], atol=1e-4)


class InterruptionError(Exception):
    pass


@pytest.mark.parametrize("epochs", [0.1, 1.0, 1.2], ids=["first epoch", "between", "second epoch"])
def test_an_interrupted_training_goes_on(
    built: list[str],
    places: Places,
    recipe_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    epochs: float,
) -> None:
    """Saved after every step and stopped after some: every picture is seen as often as it should
    be, and the result is as good."""
    wanted = replace(recipe.load(str(recipe_file)), average_decay=0.8)
    packs = [Pack(places.runs / "data" / "faces-train")]
    seen: list[int] = []
    loss = Lessons.forward

    def counting(self: Lessons, *batch: Any) -> Any:
        if len(seen) == stop_after:
            raise InterruptionError
        seen.append(len(batch[0]))
        return loss(self, *batch)

    monkeypatch.setattr(training, "SAVE_EVERY", -1)
    monkeypatch.setattr(Lessons, "forward", counting)
    epoch = int(wanted.train[0].weight) * len(packs[0]) // wanted.batch_size
    stop_after = round(epochs * epoch)
    with pytest.raises(InterruptionError):
        train(wanted, packs, {"faces": packs[0]}, tmp_path / "run", workers=0)
    stop_after = -1
    train(wanted, packs, {"faces": packs[0]}, tmp_path / "run", workers=0)
    assert len(seen) == 2 * epoch
    rows = list(csv.DictReader((tmp_path / "run" / "metrics.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert float(rows[1]["mean"]) > 85


def test_another_recipe_does_not_take_over_a_run(
    built: list[str], places: Places, recipe_file: Path
) -> None:
    wanted = recipe.load(str(recipe_file))
    with pytest.raises(DataError, match="other learning_rate, sizes; remove"):
        build(replace(wanted, learning_rate=1.0, sizes=(8,)), places, workers=0)
    train(replace(wanted, license="another"), [], {}, places.runs / "tiny")
    train(wanted, [], {}, places.runs / "tiny")


def test_distillation_from_an_earlier_run(
    built: list[str], places: Places, recipe_file: Path
) -> None:
    """A student that hears its teacher alone, and no labels, learns what the teacher knows."""
    wanted = recipe.load(str(recipe_file))
    student = replace(wanted, name="student", teachers=("tiny",), distill_weight=1.0, seed=5)
    train_step(student, places, workers=0)
    rows = (places.runs / "student" / "metrics.csv").read_text().splitlines()
    assert float(list(csv.DictReader(rows))[-1]["mean"]) > 85
    with pytest.raises(DataError, match="no finished run"):
        train_step(replace(student, name="other", teachers=("none",)), places, workers=0)


def test_command_line_errors(
    data: Path, recipe_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["--data", str(data), "--runs", str(tmp_path), "--models", str(tmp_path)]
    assert main(["build", str(recipe_file), *common]) == 2
    assert "--detector" in capsys.readouterr().err
    assert main(["build", "none", *common]) == 2
    assert "no recipe 'none'" in capsys.readouterr().err


def test_a_network_that_cannot_be_is_told_before_anything_is_made(
    recipe_file: Path, places: Places, tmp_path: Path
) -> None:
    wanted = recipe.load(str(recipe_file))
    own = replace(places, runs=tmp_path / "runs")
    for other in (
        {"architecture": "vgg"},
        {"architecture": "vgg", "arguments": {"widths": "vgg9"}},
    ):
        with pytest.raises(DataError, match=r"architecture 'vgg' .* cannot be built"):
            train_step(replace(wanted, **other), own, 0)
    assert not own.runs.exists()


def test_a_run_that_was_begun_otherwise_is_refused(
    built: list[str], places: Places, recipe_file: Path, tmp_path: Path
) -> None:
    """Also where it would begin with another network now."""
    own = replace(places, runs=tmp_path / "runs")
    shutil.copytree(places.runs, own.runs)
    wanted = replace(recipe.load(str(recipe_file)), init="pruned:tiny", remove_macs=0.5)
    with pytest.raises(DataError, match="was trained with other init"):
        train_step(wanted, own, 0)


def test_training_alone(
    built: list[str], places: Places, recipe_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["train", str(recipe_file), "--data", str(places.data), "--runs", str(places.runs)]
    assert main([*argv, "--workers", "0"]) == 0  # trained already: it only looks
    assert capsys.readouterr().out == f"trained {places.runs / 'tiny'}\n"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("sizes = []\nnovelty = 1", "novelty"),
        ("", "missing"),
        ("= 3", "not TOML"),
        ("train = [{ folder = 3 }]", "folder"),
    ],
)
def test_bad_recipes(tmp_path: Path, change: str, message: str) -> None:
    path = tmp_path / "a.toml"
    path.write_text(f'name = "a"\n{change}')
    with pytest.raises(DataError, match=message):
        recipe.load(str(path))


def test_a_recipe_says_only_what_is_its_own(tmp_path: Path, recipe_file: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text(f'like = "{recipe_file}"\nname = "other"\nsizes = [[8, 1]]')
    expected = replace(recipe.load(str(recipe_file)), name="other", sizes=(8,))
    assert recipe.load(str(other)) == expected
    other.write_text('like = "nobody"\nname = "other"')
    with pytest.raises(DataError, match="no recipe 'nobody'"):
        recipe.load(str(other))


def test_terms_come_with_the_data(tmp_path: Path) -> None:
    """A recipe like a shipped one, with its data or with others."""
    path = tmp_path / "mine.toml"
    path.write_text('like = "slim_p75"\nname = "mine"')
    shipped = recipe.load("slim_p75")
    assert shipped.default == "int8" and shipped.origin
    assert recipe.load(str(path)) == replace(shipped, name="mine", default=None)
    path.write_text(path.read_text() + '\ntrain = [{ list = "faces", split = "train" }]')
    with pytest.raises(DataError, match="license"):
        recipe.load(str(path))
    path.write_text(path.read_text() + '\nlicense = "mine"')
    own = recipe.load(str(path))
    assert (own.license, own.origin, own.default) == ("mine", "", None)


def test_a_recipe_that_ships_nothing_is_only_trained(
    built: list[str], places: Places, recipe_file: Path
) -> None:
    wanted = replace(recipe.load(str(recipe_file)), name="first", precisions=(), sizes=(16,))
    assert build(wanted, places, workers=0) == []
    assert finished(places.runs / "first") and not (places.runs / "first" / "fp32.onnx").exists()


def test_shipped_recipes_load() -> None:
    names = [p.stem for p in recipe.FOLDER.glob("*.toml")]
    assert names
    for name in names:
        wanted = recipe.load(name)
        assert wanted.name == name
        trained = {(s.list, s.split) for s in (*wanted.train, *wanted.validate)}
        assert not trained & {(s.list, s.split) for s in wanted.test}
        assert not any("lfw" in where or split == "test" for where, split in trained)


def test_the_int8_file_is_the_best_of_three(built: list[str], places: Places) -> None:
    run = places.runs / "tiny"
    report = json.loads((run / "int8.json").read_text())
    scores = {name: row["mean"] for name, row in report["validation"].items()}
    assert set(scores) == {"fp32", "minmax", "entropy", "percentile"}
    assert scores[report["ranges"]] == max(scores[m] for m in scores if m != "fp32")
    assert report["lost"] == pytest.approx(scores["fp32"] - scores[report["ranges"]], abs=1e-3)
    validation = {"faces": Pack(places.runs / "data" / "faces-val")}
    again = validate(by_file(run / "int8.onnx"), validation, 32, ["landmarks"])
    assert again["mean"] == scores[report["ranges"]]
    card = (places.models / "tiny_int8" / "card.md").read_text()
    assert f"Ranges by {report['ranges']}" in card
    assert "Ranges by" not in (places.models / "tiny_fp32" / "card.md").read_text()


def test_a_layer_that_int8_cannot_hold_is_found(
    built: list[str], places: Places, tmp_path: Path
) -> None:
    """One channel a thousand times larger, and the next layer's weights for it as much smaller:
    the same answers, but a grid over all channels of that layer resolves no other."""
    network = finished(places.runs / "tiny")
    crops = even_crops([Pack(places.runs / "data" / "faces-train")], 64, 32)
    graph.export(network, 32, tmp_path / "even.onnx")
    _, norm, _, following = network.trunk.features[:4]
    with torch.no_grad():
        norm.weight[0] *= 1000
        norm.bias[0] *= 1000
        following.weight[:, 0] /= 1000
    graph.export(network, 32, tmp_path / "uneven.onnx")
    even = sensitivity(tmp_path / "even.onnx", crops)
    uneven = sensitivity(tmp_path / "uneven.onnx", crops)
    first, *_, last = even
    assert len(even) == 4 and min(even.values()) > 15
    assert uneven[first] < even[first] - 15
    assert uneven[last] == pytest.approx(even[last], abs=3)
