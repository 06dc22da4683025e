from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from export import recipe
from export.evaluation.parent import _parents, compared
from export.files import digest
from export.runs import RESTORED, WEIGHTS, save_weights
from gender_edge import DataError
from gender_edge.zoo import MODEL


def run_of(runs: Path, name: str, **entries: object) -> None:
    (runs / name).mkdir()
    own = {"grayscale": False, "precisions": ["int8"], "init": "random", **entries}
    (runs / name / "config.json").write_text(json.dumps(own))


@pytest.mark.parametrize(
    ("init", "grayscale", "precision", "expected"),
    [
        ("random", False, "fp32", []),
        ("random", False, "int8", ["tiny/fp32"]),
        ("run:coloured", True, "int8", ["tiny/fp32", "coloured/int8"]),
        ("run:coloured", True, "fp32", ["coloured/fp32"]),
        ("run:coloured", False, "fp32", []),
        ("run:grey", True, "fp32", []),
        ("run:unshipped", True, "fp32", []),
        ("pruned:half", False, "int8", ["tiny/fp32", "coloured/int8"]),
        ("run:cut", False, "int8", ["tiny/fp32", "coloured/int8"]),
        ("pruned:on", False, "fp32", ["coloured/fp32"]),
        ("run:half", False, "fp32", []),
        ("run:gone", True, "fp32", []),
        ("pruned:unshipped", False, "fp32", []),
    ],
)
def test_what_a_variant_is_compared_with(
    init: str,
    grayscale: bool,
    precision: str,
    expected: list[str],
    recipe_file: Path,
    tmp_path: Path,
) -> None:
    run_of(tmp_path, "coloured")
    run_of(tmp_path, "grey", grayscale=True)
    run_of(tmp_path, "unshipped", precisions=[])
    run_of(tmp_path, "half", init="pruned:coloured")
    run_of(tmp_path, "cut", init="pruned:half", precisions=[])
    run_of(tmp_path, "on", init="run:cut")
    own = replace(recipe.load(str(recipe_file)), init=init, grayscale=grayscale)
    model = tmp_path / "tiny" / precision / "model.onnx"
    found = [other for _, other in _parents(own, model, tmp_path)]
    assert found == [tmp_path / name / "model.onnx" for name in expected]
    if expected:
        with pytest.raises(DataError, match="no evaluated model; build that recipe first"):
            compared(own, model, tmp_path)
    else:
        assert compared(own, model, tmp_path) == []


def test_a_restored_run_is_compared_with_in_what_it_has(recipe_file: Path, tmp_path: Path) -> None:
    run_of(tmp_path, "whole")
    save_weights({"a": torch.zeros(1)}, tmp_path / "whole" / WEIGHTS, **{RESTORED: "digest"})
    only = tmp_path / "whole" / "int8" / MODEL
    only.parent.mkdir()
    only.touch()
    own = replace(recipe.load(str(recipe_file)), init="pruned:whole")
    ((why, found),) = _parents(own, tmp_path / "tiny" / "fp32" / MODEL, tmp_path)
    assert found == only and why.endswith("which it was cut from, in INT8")


def test_weights_that_were_read_from_int8_say_so(recipe_file: Path, tmp_path: Path) -> None:
    own, model = recipe.load(str(recipe_file)), tmp_path / "tiny" / "int8" / MODEL
    exact = tmp_path / "tiny" / "fp32" / MODEL
    exact.parent.mkdir(parents=True)
    exact.touch()
    weights = tmp_path / "tiny" / WEIGHTS
    for read_from, more in ((digest(exact), ""), ("other", ", as an earlier INT8 file had them")):
        save_weights({"a": torch.zeros(1)}, weights, **{RESTORED: read_from})
        assert next(_parents(own, model, tmp_path)) == (f"its weights before INT8{more}", exact)


def test_int8_that_was_taught_on_says_so(recipe_file: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    own, model = recipe.load(str(recipe_file)), tmp_path / "tiny" / "int8" / MODEL
    for report, why in (({}, "INT8"), ({"aware": {}}, "INT8, not taught on for it")):
        (tmp_path / "tiny" / "int8.json").write_text(json.dumps(report))
        assert [said for said, _ in _parents(own, model, tmp_path)] == [f"its weights before {why}"]
