from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from benchmarks.compare import compare, main
from gender_edge import zoo
from tests.conftest import ROOT

ROW = {"batch": 1, "p50_ms": 1.0, "p99_ms": 2.0, "faces_per_s": 900.0}
MACHINE = {"machine": {"cpu": "some", "cores": 2}, "settings": {"clock": "network", "threads": 1}}
FILMED = {"cameras": [30, 3], "deadline": None}
INTERVAL = {"p50_ms": [0.9, 1.1], "p99_ms": [1.5, 2.5], "faces_per_s": [850.0, 950.0]}


@pytest.fixture
def result() -> dict[str, Any]:
    return {
        **MACHINE,
        "variants": [
            {
                "name": "small_int8",
                "engine": "onnxruntime",
                "bytes": 1000,
                "parameters": 900,
                "macs": 5000,
                "batches": [{**ROW, "interval": INTERVAL}],
                "accuracy": {"value": 0.9, "sets": {"lfw": {"value": 0.9}}},
            }
        ],
    }


def _compare(folder: Path, before: Any, after: Any, *options: str) -> int:
    for name, own in (("a.json", before), ("b.json", after)):
        (folder / name).write_text(json.dumps(own))
    return main([str(folder / "a.json"), str(folder / "b.json"), *options])


def test_the_same_twice_is_equal(
    result: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _compare(tmp_path, result, result) == 0
    assert capsys.readouterr().out == "0 worse, 0 gone, 0 better, 7 equal\n"


@pytest.mark.parametrize(
    ("path", "value", "figure"),
    [
        (("bytes",), 1100, "bytes"),
        (("macs",), 5001, "macs"),
        (("accuracy", "sets", "lfw", "value"), 0.89, "lfw, %"),
    ],
)
def test_a_counted_loss_is_told(
    result: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    path: tuple[str, ...],
    value: float,
    figure: str,
) -> None:
    other = deepcopy(result)
    place = other["variants"][0]
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    assert _compare(tmp_path, result, other, "--counted") == 1
    assert figure in capsys.readouterr().out
    assert _compare(tmp_path, other, result, "--counted") == 0  # the other way it is a gain
    assert "1 better" in capsys.readouterr().out


def test_times_that_overlap_are_noise(
    result: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = deepcopy(result)
    row = other["variants"][0]["batches"][0]
    row["p50_ms"], row["interval"]["p50_ms"] = 1.4, [1.05, 1.5]
    assert _compare(tmp_path, result, other) == 0
    row["interval"]["p50_ms"] = [1.3, 1.5]
    assert _compare(tmp_path, result, other) == 1
    assert "p50_ms, batch 1" in capsys.readouterr().out
    assert _compare(tmp_path, result, other, "--timing", "50") == 0
    assert _compare(tmp_path, result, other, "--counted") == 0


def test_what_is_gone_is_a_loss(
    result: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = {
        **MACHINE,
        "variants": [{"name": "small_int8", "engine": "onnxruntime", "error": "no"}],
    }
    assert _compare(tmp_path, result, {**MACHINE, "variants": []}) == 1
    assert _compare(tmp_path, result, broken) == 1
    assert _compare(tmp_path, broken, result) == 0
    (tmp_path / "b.json").write_text("{")
    assert main([str(tmp_path / "a.json"), str(tmp_path / "b.json")]) == 2
    assert "b.json" in capsys.readouterr().err


@pytest.mark.parametrize("path", [("macs",), ("accuracy", "sets", "lfw"), ("batches",)])
def test_a_figure_that_is_gone_is_a_loss(
    result: dict[str, Any], tmp_path: Path, path: tuple[str, ...]
) -> None:
    other = deepcopy(result)
    place = other["variants"][0]
    for key in path[:-1]:
        place = place[key]
    del place[path[-1]]
    assert _compare(tmp_path, result, other) == 1


def test_a_set_of_one_label_has_nothing_to_compare(result: dict[str, Any], tmp_path: Path) -> None:
    result["variants"][0]["accuracy"]["sets"]["women"] = {"value": None}
    assert _compare(tmp_path, result, result) == 0


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        ("machine", "cpu", "another"),
        ("machine", "features", ["amx_int8"]),
        ("settings", "clock", "crop"),
        ("settings", "threads", None),
        ("settings", "batches", [1, 64]),
        ("settings", "cameras", [15, 3]),
    ],
)
def test_times_of_other_conditions_are_not_compared(
    result: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    part: str,
    key: str,
    value: Any,
) -> None:
    result["settings"] = {**result["settings"], **FILMED}
    other = deepcopy(result)
    other[part][key] = value
    assert _compare(tmp_path, result, other) == 2
    assert "--counted leaves them out" in capsys.readouterr().err
    assert _compare(tmp_path, result, other, "--counted") == 0


def test_memory_and_cameras_are_compared(
    result: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = result["variants"][0]
    own["batches"][0]["resident_mb"], own["cameras"] = {"peak": 100.0}, {"cameras": 40}
    other = deepcopy(result)
    other["variants"][0]["batches"][0]["resident_mb"]["peak"] = 120.0
    other["variants"][0]["cameras"]["cameras"] = 20
    assert _compare(tmp_path, result, other) == 1
    told = capsys.readouterr().out
    assert "peak MB, batch 1" in told and "cameras" in told and "2 worse" in told


def test_who_overtook_whom_is_told(
    result: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slow = deepcopy(result["variants"][0])
    slow["name"] = "large_int8"
    slow["batches"][0].update(p50_ms=3.0, interval={**INTERVAL, "p50_ms": [2.9, 3.1]})
    result["variants"].append(slow)
    assert _compare(tmp_path, result, result) == 0
    assert "faster now" not in capsys.readouterr().out
    other = deepcopy(result)
    other["variants"][1]["batches"][0].update(
        p50_ms=0.5, interval={**INTERVAL, "p50_ms": [0.4, 0.6]}
    )
    _compare(tmp_path, result, other)
    assert "large_int8 on onnxruntime, batch 1" in capsys.readouterr().out
    other["variants"][1]["batches"][0]["interval"]["p50_ms"] = [0.4, 1.0]  # no longer sure
    _compare(tmp_path, result, other)
    assert "faster now" not in capsys.readouterr().out


def test_what_is_no_result_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for content in ("[]", "{}", '{"streams": 4}'):
        (tmp_path / "a.json").write_text(content)
        assert main([str(tmp_path / "a.json"), str(tmp_path / "a.json")]) == 2
        assert "no result of benchmarks/run.py" in capsys.readouterr().err


def test_committed_results_are_of_what_is_shipped() -> None:
    """Parameters and multiply-accumulates everywhere, bytes and accuracy where it is the same file:
    a machine may not have been at hand since a variant was taught on.
    """
    for path in (ROOT / "benchmarks" / "results").glob("*.json"):
        committed = json.loads(path.read_text())
        present = {"variants": [_counted(v) for v in committed["variants"]]}
        changes = compare(committed, present, None)
        assert {c.verdict for c in changes} == {"equal"}, changes


def _shipped(variant: dict[str, Any]) -> bool:
    """Neither a peer nor a file beside it, such as a network before it was cut."""
    return variant.get("kind") != "peer" and not variant["name"].endswith(".onnx")


def _counted(variant: dict[str, Any]) -> dict[str, Any]:
    if not _shipped(variant):
        return variant
    entry = zoo.entry(variant["name"])
    earlier = variant["sha256"] != entry.sha256
    facts = entry.evaluation["spec"]  # which `tests/test_models.py` holds against the file
    sets = {name: own["balanced_accuracy"] for name, own in entry.evaluation["sets"].items()}
    return {
        "name": variant["name"],
        "engine": variant["engine"],
        **{key: facts[key] for key in ("parameters", "macs")},
        "bytes": variant["bytes"] if earlier else entry.bytes,
        # What a run measured itself is its engine's own, not the recorded one of ONNX Runtime.
        "accuracy": variant["accuracy"]
        if earlier or variant["accuracy"]["measured"]
        else {"sets": sets},
    }
