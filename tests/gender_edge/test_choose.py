from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gender_edge import (
    ArgumentError,
    BackendError,
    BudgetError,
    Classifier,
    ModelError,
    choose,
    host,
    zoo,
)
from gender_edge.backends import installed
from gender_edge.choose import Budget, Candidate
from gender_edge.cli import main

FAST = Candidate("fast", "onnxruntime", 0.90, 1_000_000, 0.5, recorded=True)
GOOD = Candidate("good", "onnxruntime", 0.95, 2_000_000, 1.5, recorded=True)
SAME = Candidate("as good but for chance, slower", "openvino", 0.951, 500_000, 3.0, recorded=False)


def key(name: str) -> str:
    return zoo.entry(name).sha256[:16]


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Records of this machine: what each engine takes for any model."""
    times = {"onnxruntime": 0.125, "openvino": 0.25}
    monkeypatch.setattr("gender_edge.engines.usable", lambda: False)
    monkeypatch.setattr(installed, "onnxruntime_cuda", lambda: False)
    monkeypatch.setattr(
        choose,
        "records",
        lambda: [
            {"host": host.identity(e), "p50_ms": {key(name): ms for name in zoo.names()}}
            for e, ms in times.items()
        ],
    )
    return times


@pytest.mark.parametrize(
    ("limits", "taken"),
    [
        ((None, None, None), GOOD),
        ((1.5, None, None), GOOD),
        ((1.4, None, None), FAST),
        ((None, 1.0, None), SAME),
        ((1.0, 1.0, 0.9), FAST),
    ],
)
def test_the_most_accurate_within_the_budget(
    limits: tuple[float, float, float], taken: Candidate
) -> None:
    """Half a standard error more accuracy does not make up for twice the time, two do."""
    assert choose.pick([FAST, GOOD, SAME], [], Budget(*limits)) is taken


def test_more_accuracy_than_chance_explains_is_worth_time() -> None:
    better = replace(SAME, accuracy=0.954)
    assert choose.pick([FAST, GOOD, better], [], Budget()) is better


def test_nothing_fits() -> None:
    """The error says what was asked, how near each comes, and what was not asked."""
    found = r"fits within 0\.1 ms, at most 2 MB, right on at least 97 %; there are fast on "
    found += r"onnxruntime 0\.50 ms, 1\.00 MB, 90\.0 %; good.*; left out: that one"
    with pytest.raises(ModelError, match=found):
        choose.pick([FAST, GOOD], ["that one"], Budget(0.1, 2, 0.97))


@pytest.mark.parametrize(
    "limit",
    [
        {"budget_ms": math.nan},
        {"budget_ms": 0},
        {"budget_ms": math.inf},
        {"max_mb": -1},
        {"min_accuracy": 95},
        {"min_accuracy": math.nan},
        {"budget_ms": "2"},
        {"min_accuracy": "0.9"},
    ],
)
def test_limits_that_make_no_sense(limit: dict[str, float]) -> None:
    with pytest.raises(BudgetError, match=f"{next(iter(limit))}=.*expected"):
        Classifier.best(**limit)


def test_a_record_counts_on_its_own_machine_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A record of this processor and engine, for these bytes; else it is measured here."""
    name = zoo.default()
    monkeypatch.setattr(zoo, "names", lambda: [name])
    here = host.identity("onnxruntime")
    own = {"host": here, "p50_ms": {key(name): 0.125}}
    others = [
        {"host": {**here, **other}, "p50_ms": {key(name): 0.25}}
        for other in ({"cpu": "another"}, {"cores": 99}, {"features": []})
    ]
    found = {}
    for label, records in (("own", [*others, own]), ("other", others)):
        monkeypatch.setattr(choose, "records", lambda kept=records: kept)
        ((found[label],), _) = choose.candidates("onnxruntime")
    assert found["own"].recorded and found["own"].latency_ms == 0.125
    assert not found["other"].recorded and found["other"].latency_ms > 0.01
    ((threaded,), _) = choose.candidates("onnxruntime", threads=1)
    assert not threaded.recorded


def test_a_machine_is_told_from_another(monkeypatch: pytest.MonkeyPatch) -> None:
    assert host.identity("onnxruntime")["features"] == host.features()
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {3}, raising=False)
    assert host.cores() == 1


@pytest.mark.parametrize("faster", ["onnxruntime", "openvino"])
def test_the_engine_that_answers_sooner(recorded: dict[str, float], faster: str) -> None:
    pytest.importorskip("openvino")
    recorded[faster] = 0.0625
    for device in ("auto", "cpu"):
        found, left_out = choose.candidates(device)
        assert {c.engine for c in found} == set(recorded) and not left_out
        assert len(found) == 2 * len(zoo.names())
        assert choose.best(device=device).engine == faster
    with Classifier.best(0.1) as classifier:
        assert classifier.backend.startswith(faster)
    other = next(engine for engine in recorded if engine != faster)
    assert choose.best(device=other).engine == other


def test_accuracies_on_other_sets_are_not_compared(
    recorded: dict[str, float],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Nearly always right on a set of one's own is not better than the shipped default."""
    shutil.copytree(zoo.folder(), tmp_path / "models")
    name = next(name for name in zoo.names() if name != zoo.default())
    file = tmp_path / "models" / name / "evaluation.json"
    evaluation = json.loads(file.read_text())
    (first, *_) = evaluation["sets"].values()
    first["balanced_accuracy"] = {"value": 0.999, "low": 0.998, "high": 1.0, "n": 100}
    file.write_text(json.dumps({**evaluation, "sets": {"mine": first}}))
    monkeypatch.setattr(zoo, "folder", lambda: tmp_path / "models")
    found, left_out = choose.candidates("onnxruntime")
    assert {c.name for c in found} == {*zoo.names()} - {name}
    (reason,) = left_out
    assert reason.startswith(f"{name}: tested on mine and not on ")
    assert main(["models"]) == 0
    assert capsys.readouterr().out.count("(tested on mine)") == 1
    file.unlink()
    assert str(file) in choose.candidates("onnxruntime")[1][0]


@pytest.mark.usefixtures("recorded")
def test_best_opens_it() -> None:
    with Classifier.best(max_mb=2, device="onnxruntime") as classifier:
        assert zoo.entry(classifier.name).bytes <= 2e6 and "onnxruntime" in classifier.backend
    with pytest.raises(ModelError, match="no shipped model fits"):
        Classifier.best(0.0001)
    with pytest.raises(ArgumentError, match="expected one of"):
        Classifier.best(device="tpu")


def test_what_is_too_large_is_not_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that has room for small models only must not load the others to time them."""
    opened = []

    def latency(entry: zoo.Entry, *options: Any) -> tuple[float, bool]:
        opened.append(entry.name)
        return 1.0, True

    monkeypatch.setattr(choose, "_latency", latency)
    small = {name for name in zoo.names() if zoo.entry(name).bytes <= 1e6}
    assert choose.best(max_mb=1, device="onnxruntime").name in small
    assert set(opened) == small < set(zoo.names())
    with pytest.raises(ModelError, match=r"fits at most 0\.001 MB; there are left out: .* MB, "):
        choose.best(max_mb=0.001, device="onnxruntime")


@pytest.mark.usefixtures("recorded")
def test_a_model_that_an_engine_refuses_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    latency: Any = choose._latency

    def refusing(entry: zoo.Entry, *options: Any) -> Any:
        if entry.name == zoo.default():
            raise BackendError("not this one")
        return latency(entry, *options)

    monkeypatch.setattr(choose, "_latency", refusing)
    _, left_out = choose.candidates("onnxruntime")
    assert left_out == [f"{zoo.default()} on onnxruntime: not this one"]


@pytest.mark.usefixtures("recorded")
def test_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--max-mb", "2", "--device", "onnxruntime", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["name"] in zoo.names() and json.loads(out)["engine"] == "onnxruntime"
    assert err.count("\n# ") + 1 == len(zoo.names())
    assert main(["models", "--max-mb", "2", "--device", "onnxruntime"]) == 0
    assert capsys.readouterr().out.endswith("\tonnxruntime\n")
    assert main(["models", "--min-accuracy", "100"]) == 2
    assert "fits right on at least 100 %" in capsys.readouterr().err
    for argv in (["--threads", "2"], ["slim_int8", "--device", "cpu"]):
        assert main(["models", *argv]) == 2
        assert "where a budget is timed" in capsys.readouterr().err
    assert main(["models", "--budget-ms", "nan"]) == 2
    assert "budget_ms=nan: expected" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["models", "--min-accuracy", "0.95"])
    assert "expected per cent" in capsys.readouterr().err


@pytest.mark.parametrize(
    "content", ["[{", '{"a": 1}', "[1]", '[{"host": {}}]', '[{"host": {}, "p50_ms": {"a": null}}]']
)
def test_damaged_records_are_told(
    content: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(zoo.folder(), tmp_path / "models", copy_function=_link)
    (tmp_path / "models" / choose.TIMINGS).unlink()
    (tmp_path / "models" / choose.TIMINGS).write_text(content)
    monkeypatch.setattr(zoo, "folder", lambda: tmp_path / "models")
    assert main(["models", "--budget-ms", "5"]) == 2
    assert "timings.json: damaged" in capsys.readouterr().err


def _link(source: str, target: str) -> None:
    Path(target).symlink_to(source)
