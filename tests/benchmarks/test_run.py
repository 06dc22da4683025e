from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from benchmarks import machine, measure, report
from benchmarks.run import main
from gender_edge import zoo


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("out")
    argv = [zoo.default(), zoo.names()[-1], "--batches", "1,3", "--seconds", "0.1"]
    argv += [
        f"--{kind}={folder / name}"
        for kind, name in (("json", "a.json"), ("markdown", "a.md"), ("plot", "a.png"))
    ]
    assert main(argv) == 0
    return folder


@pytest.fixture(scope="module")
def result(outputs: Path) -> dict[str, Any]:
    return json.loads((outputs / "a.json").read_text())


def test_figures_are_there_and_make_sense(result: dict[str, Any]) -> None:
    assert result["machine"]["cores"] >= 1
    for variant in result["variants"]:
        assert [row["batch"] for row in variant["batches"]] == [1, 3]
        for row in variant["batches"]:
            assert 0 < row["p50_ms"] <= row["p90_ms"] <= row["p99_ms"]
            assert row["faces_per_s"] > 0 and row["runs"] >= 5
            memory = row["resident_mb"]
            assert 10 < memory["import"] < memory["load"] <= memory["peak"]
        assert variant["bytes"] == zoo.entry(variant["name"]).bytes
        recorded = zoo.entry(variant["name"])
        accuracy = variant["accuracy"]
        assert not accuracy["measured"] and accuracy["value"] == recorded.accuracy["value"]
        assert accuracy["low"] < accuracy["value"] < accuracy["high"]
        assert set(accuracy["sets"]) == set(recorded.evaluation["sets"])


def test_tables_and_plot(outputs: Path, result: dict[str, Any]) -> None:
    markdown = (outputs / "a.md").read_text()
    assert markdown.count("\n| ") >= 4 and "(recorded)" in markdown
    assert (outputs / "a.png").read_bytes()[:4] == b"\x89PNG"
    assert zoo.default() in report.text(result)


def test_every_device_is_a_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("openvino")
    argv = [zoo.default(), "--batches=1", "--seconds=0.05", "--device=onnxruntime,openvino,tpu"]
    assert main([*argv, f"--plot={tmp_path / 'a.png'}"]) == 1
    out = capsys.readouterr().out
    found = json.loads(out.splitlines()[-1])["variants"]
    assert [v["engine"] for v in found] == ["onnxruntime", "openvino", "tpu"]
    assert "expected one of" in found[2]["error"]
    table = [line for line in out.splitlines() if line.startswith(zoo.default())]
    assert len(table) == 4  # three of speed, one of accuracy


def test_last_line_is_json(
    face: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for label in ("female", "male"):
        (tmp_path / label).mkdir()
        cv2.imwrite(str(tmp_path / label / "a.png"), face)
    path = str(zoo.entry(zoo.default()).path)
    argv = [path, "no_such_model", "--batches=1", "--seconds=0.05", f"--data={tmp_path}"]
    assert main(argv) == 1
    out = capsys.readouterr().out
    found = json.loads(out.splitlines()[-1])
    good, bad = found["variants"]
    assert good["accuracy"]["measured"] and good["accuracy"]["n"] == 2
    assert "no shipped model 'no_such_model'" in bad["error"]
    assert "(recorded)" not in out


def test_unreadable_data_is_said_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", "/nowhere"]) == 2
    assert "no such file or folder" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["--batches", "1,x"])


def test_pareto_front() -> None:
    """The slow and good, the fast and good; not what either beats."""
    points = [(2.0, 90.0), (3.0, 89.0), (4.0, 95.0), (1.0, 90.0)]
    assert report.pareto(points) == [(1.0, 90.0), (4.0, 95.0)]


def test_readme_table_is_replaced(tmp_path: Path, result: dict[str, Any]) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{report.START}\nold\n{report.END}\nafter\n")
    for _ in range(2):
        report.update_readme(readme, result)
        page = readme.read_text()
        assert page.startswith("before\n") and page.endswith("after\n") and "old" not in page
        assert page.count("| variant |") == 1
    readme.write_text("nothing")
    with pytest.raises(SystemExit, match="has no"):
        report.update_readme(readme, result)


def test_memory_is_the_process_own() -> None:
    now, peak = measure.resident_mb()
    block = np.ones(40_000_000, np.uint8)
    more, more_peak = measure.resident_mb()
    assert more - now > 30 and more_peak >= peak
    del block
    assert measure.resident_mb()[1] >= more_peak - 1  # the kernel counts in batches


def test_slug_is_a_file_name() -> None:
    name = machine.slug(machine.describe())
    assert name == Path(name).name and " " not in name and "onnxruntime" in name
