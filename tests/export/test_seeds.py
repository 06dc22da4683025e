from __future__ import annotations

import json
from pathlib import Path

import pytest

from export.__main__ import main
from export.data.prepare import Places
from export.provenance import NOTE
from export.recipe import load
from export.runs import CONFIG, WEIGHTS, config
from export.seeds import seeded, table
from gender_edge import DataError


def finish(run: Path, mean: float, **changes: object) -> None:
    """What of a finished run is looked at."""
    run.mkdir(parents=True)
    (run / WEIGHTS).touch()
    own = {"name": run.name, "seed": 0, "init": "random", "batch_size": 16, "gate": 0.3}
    (run / CONFIG).write_text(json.dumps({**own, **changes}))
    (run / "metrics.csv").write_text(f"epoch,loss,faces/box,mean\n1,0.9,50,50\n2,0.8,{mean},{mean}")


def test_mean_and_range(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed, mean in enumerate((90.0, 91.0, 95.0)):
        finish(tmp_path / (f"slim_s{seed}" if seed else "slim"), mean, seed=seed, gate=seed)
    finish(tmp_path / "slim_gray", 10.0)  # another recipe
    (tmp_path / "slim_s3").mkdir()  # not finished
    (tmp_path / "slim_s4").mkdir()
    (tmp_path / "slim_s4" / WEIGHTS).touch()  # restored from what is shipped
    finish(tmp_path / "other", 80.0)
    finish(tmp_path / "other_s7", 81.0, seed=7, warmup=0.03)  # said by default at first
    assert main(["seeds", "slim", "other", f"--runs={tmp_path}"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "| validation | slim, 3 seeds | other, 2 seeds |",
        "| --- | --- | --- |",
        "| faces/box | 92.00 (90.00-95.00) | 80.50 (80.00-81.00) |",
        "| mean | 92.00 (90.00-95.00) | 80.50 (80.00-81.00) |",
    ]


def test_only_seeds_may_differ(tmp_path: Path) -> None:
    finish(tmp_path / "slim", 90.0)
    with pytest.raises(DataError, match=r"not yet two finished runs of slim; .* --seed N"):
        table(["slim"], tmp_path)
    finish(tmp_path / "slim_s1", 90.0, seed=1, batch_size=32)
    with pytest.raises(DataError, match="slim_s1: was trained with other batch_size than slim"):
        table(["slim"], tmp_path)


def test_only_chance_may_differ(tmp_path: Path) -> None:
    for name, seed, teacher in (("slim", 0, "one"), ("slim_s1", 1, "other")):
        finish(tmp_path / name, 90.0, seed=seed)
        (tmp_path / name / NOTE).write_text(json.dumps({"the weights of big": teacher}))
    with pytest.raises(DataError, match="slim_s1: was trained with other the weights of big than"):
        table(["slim"], tmp_path)
    with pytest.raises(DataError, match="--seed 0 is what slim has anyway"):
        seeded(load("slim"), 0)


def test_a_seed_makes_a_run_of_its_own(places: Places, recipe_file: Path, tmp_path: Path) -> None:
    """It starts elsewhere, and is not shipped."""
    argv = ["build", str(recipe_file), f"--data={places.data}", f"--runs={tmp_path}"]
    argv += [f"--models={tmp_path / 'models'}", "--workers=0", "--epochs=1", "--seed=3"]
    assert main(argv) == 0
    own = config(tmp_path / "tiny_s3")
    assert own["seed"] == 3 and own["name"] == "tiny_s3"
    assert not (tmp_path / "models").exists()
