from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from export import recipe
from export.__main__ import ROOT, main
from export.build import Places, build
from export.compare import compare, earlier_rows, markdown, references
from export.evaluation import latency
from export.recipe import Recipe
from gender_edge import DataError
from gender_edge.labelled import read_labelled

TINY = """
name = "tiny_reference"
architecture = "slim"
arguments = { stem = 8, widths = [[8], [16]] }
input_size = 24
sizes = [[24, 2]]
augmentation = "rotate_zoom_flip"
optimizer = "adam"
schedule = "constant"
batch_size = 16
precisions = []
license = "none"
protocol = "as published"
published = "99.9 %"
train = [{ list = "celeba_test", split = "train", weight = 2.0 }]
validate = [{ list = "celeba_test", split = "val" }]
test = [{ list = "celeba_test", split = "test" }]
"""


@pytest.fixture(scope="module")
def ran(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, Places]:
    """A reference that was trained for one of its two epochs, and judged, from the command line."""
    home = tmp_path_factory.mktemp("references")
    (home / "boxed").mkdir()
    lines = ["path,label,box"]
    lines += [f"{s.path},{s.label},1 5 50 50" for s in read_labelled(data / "faces")]
    (home / "boxed" / "celeba_test").write_text("\n".join(lines))
    file = home / "tiny_reference.toml"
    file.write_text(TINY)
    argv = ["build", str(file), "--data", str(home / "boxed"), "--runs", str(home / "runs")]
    argv += ["--models", str(home / "models"), "--workers", "0", "--epochs"]
    assert main([*argv, "1"]) == 0
    assert main([*argv, "3"]) == 2, "more epochs than there are"
    places = Places(home / "boxed", home / "runs", home / "models")
    return recipe.load(str(file)), places


def test_a_reference_is_judged_but_not_shipped(ran: tuple[Recipe, Places]) -> None:
    wanted, places = ran
    run = places.runs / wanted.name
    assert not places.models.exists()
    figures = json.loads((run / "fp32" / "evaluation.json").read_text())
    own = figures["sets"]["celeba_test"]
    assert own["faces"] == own["accuracy"]["n"] and "balanced_accuracy_box" not in own
    assert (run / "fp32" / "confusion.png").exists()
    counts = {}
    for split in ("train", "val", "test"):
        file = run / "splits" / f"celeba_test-{split}.csv"
        counts[split] = set(file.read_text().splitlines()[1:])
    assert len(counts["test"]) == own["faces"]
    assert not counts["train"] & counts["test"] and not counts["val"] & counts["test"]
    before = (run / "fp32" / "model.onnx").stat().st_mtime_ns
    assert build(replace(wanted, sizes=wanted.sizes[:1]), places, workers=0) == []
    assert (run / "fp32" / "model.onnx").stat().st_mtime_ns == before


def test_table(ran: tuple[Recipe, Places], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "ROUNDS", 2)
    (tmp_path / "slim_int8").symlink_to(ROOT / "models" / "slim_int8")
    (tmp_path / "spotter").mkdir()
    (tmp_path / "spotter" / "evaluation.json").write_text('{"spec": {"name": "spotter"}}')
    registry = {"models": {"slim_int8": {}}, "detectors": {"spotter": {}}}
    (tmp_path / "registry.json").write_text(json.dumps(registry))
    wanted, places = ran
    begun = replace(wanted, name="begun")
    (places.runs / "begun").mkdir()
    config = (places.runs / wanted.name / "config.json").read_text()
    (places.runs / "begun" / "config.json").write_text(config.replace(wanted.name, "begun"))
    absent, other = replace(wanted, name="absent"), replace(wanted, learning_rate=1.0)
    result = compare([wanted, begun, absent, other], places.runs, tmp_path)
    rows = {row["name"]: row for row in result["rows"]}
    text = markdown(result).splitlines()
    head = cells(text[0])
    table = [dict(zip(head, cells(line))) for line in text[2 : 2 + len(result["rows"])]]
    first = table[0]
    assert first["epochs"] == "1 of 2" and first["published"] == "99.9 %"
    assert first["trained on"] == "CPU"
    learned = places.runs / wanted.name / "splits" / "celeba_test-train.csv"
    assert first["pictures"] == str(learned.read_text().count("\n") - 1)
    own = json.loads((places.runs / wanted.name / "fp32" / "evaluation.json").read_text())
    accuracy = own["sets"]["celeba_test"]["accuracy"]
    assert first["accuracy"].startswith(f"{100 * accuracy['value']:.1f} (")
    assert first["loss"].startswith(f"{own['sets']['celeba_test']['loss']['value']:.3f} (")
    women, men = own["sets"]["celeba_test"]["confusion"]
    assert first["confusion"] == f"{women[0]} {women[1]} / {men[0]} {men[1]}"
    assert (women[0] + men[1]) / (sum(women) + sum(men)) == pytest.approx(accuracy["value"])
    assert first["MMACs"] == f"{own['spec']['macs'] / 1e6:.0f}"
    assert first["lfw"] == "not measured"
    assert re.fullmatch(r"\d+\.\d\dx", first["of slim_int8"])
    assert table[1]["epochs"] == "not finished" and table[2]["epochs"] == "not run"
    assert all(table[2][column] == "-" for column in ("accuracy", "M param.", "ms a face"))
    assert table[3]["epochs"] == "run of another recipe (learning_rate)"
    assert [row["reference"] for row in table[4:]] == ["slim_int8"], "detectors have no row"
    shipped = table[4]
    assert shipped["of slim_int8"] == "1.00x" and float(shipped["ms a face"]) > 0
    assert rows["slim_int8"]["sets"]["lfw"]["balanced_accuracy"]["n"] > 6000
    assert all(len(cells(line)) == len(head) for line in text[: 2 + len(table)])
    below = "- **tiny_reference, begun, absent, tiny_reference**: as published"
    assert below in text, "what a protocol is stands once below the table"


def test_a_row_outlives_its_run(
    ran: tuple[Recipe, Places], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latency, "ROUNDS", 2)
    wanted, places = ran
    file = tmp_path / "table.json"
    file.write_text(json.dumps(compare([wanted], places.runs, tmp_path)))
    before = earlier_rows(file)
    gone = compare([wanted], tmp_path, tmp_path, before)
    assert gone["rows"] == [{**before[0], "kept": True}]
    assert "| tiny_reference (earlier) | 99.9 % | 1 of 2 |" in markdown(gone)
    moved = markdown({**gone, "processor": "another"})
    assert f" ({before[0]['processor']}) |" in moved, "times tell the processor that they are of"
    again = compare([wanted], places.runs, tmp_path, gone["rows"])
    assert "kept" not in again["rows"][0], "measured anew while the run is there"
    shutil.copytree(places.runs / wanted.name, tmp_path / wanted.name)
    (tmp_path / wanted.name / "fp32" / "evaluation.json").unlink()
    reworded = replace(wanted, protocol="in other words")
    begun = compare([reworded], tmp_path, tmp_path, gone["rows"])
    assert begun["rows"] == [{**before[0], "protocol": "in other words", "kept": True}]
    changed = compare([replace(wanted, learning_rate=1.0)], tmp_path, tmp_path, before)
    assert changed["rows"][0]["state"] == "run of another recipe (learning_rate)"
    file.write_text('{"rows": [1]}')
    with pytest.raises(DataError, match="remove it"):
        earlier_rows(file)


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every reference has a row, run or not; ours follow."""
    out = tmp_path / "new" / "table.md"
    argv = ["compare", "--runs", str(tmp_path), "--models", str(tmp_path)]
    assert main([*argv, "--out", str(out)]) == 0
    rows = json.loads(out.with_suffix(".json").read_text())["rows"]
    assert [row["name"] for row in rows] == [own.name for own in references()]
    assert {row["state"] for row in rows} == {"not run"}
    recipes = [name for name in recipe.names() if name.startswith("references/")]
    assert len({row["name"] for row in rows}) == len(recipes) - 2, "all but two trunks on faces"
    assert main(argv) == 0
    assert out.read_text() in capsys.readouterr().out
