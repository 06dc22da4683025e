from __future__ import annotations

import csv
from pathlib import Path

import pytest

from export.__main__ import main
from export.build import Places


def test_cost_and_accuracy_by_size(
    built: list[str], recipe_file: Path, places: Places, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["sizes", str(recipe_file), f"--data={places.data}", f"--runs={places.runs}"]
    assert main([*argv, "--workers=0", "--sizes", "48", "64"]) == 0
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in capsys.readouterr().out.splitlines()
    ]
    assert [row[0] for row in rows[2:]] == ["32 (its own)", "48", "64"]
    own, middle, large = ([float(cell) for cell in row[1:]] for row in rows[2:])
    assert large[0] == pytest.approx(4 * own[0], rel=0.1) and own[0] < middle[0] < large[0]
    with (places.runs / "tiny" / "metrics.csv").open(newline="") as file:
        *_, last = csv.DictReader(file)
    assert own[1] == pytest.approx(float(last["mean"]), abs=0.1) and own[2] == 0
    assert large[2] == pytest.approx(large[1] - own[1], abs=0.02)
    assert main([*argv, "--workers=0", "--sizes", "1"]) == 2
    assert "name others with --sizes" in capsys.readouterr().err


def test_a_run_that_is_not_there(
    recipe_file: Path, places: Places, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "other.toml"
    file.write_text(f'like = "{recipe_file}"\nname = "other"\n')
    argv = ["sizes", str(file), f"--data={places.data}", f"--runs={places.runs}"]
    assert main([*argv, "--workers=0"]) == 2
    assert "no finished run" in capsys.readouterr().err
