from __future__ import annotations

import json
from pathlib import Path

import pytest

from gender_edge import BackendError, Classifier, ModelError, choose, zoo
from gender_edge.choose import Candidate
from gender_edge.cli import main

FAST = Candidate("fast", 0.90, 1_000_000, 0.5, recorded=True)
GOOD = Candidate("good", 0.95, 2_000_000, 1.5, recorded=True)
SAME = Candidate("as good and slower", 0.95, 500_000, 3.0, recorded=False)


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
    assert choose.pick([FAST, GOOD, SAME], *limits) is taken


def test_nothing_fits() -> None:
    with pytest.raises(ModelError, match=r"fast 0\.50 ms, 1\.00 MB, 90\.0 %; good"):
        choose.pick([FAST, GOOD], 0.1, None, None)


def test_a_record_counts_on_its_own_machine_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A record of this processor and engine, for these bytes; else it is measured here."""
    name = zoo.default()
    key = zoo.entry(name).sha256[:16]
    own = {"host": choose.host("onnxruntime"), "p50_ms": {key: 0.125}}
    other = {"host": {**own["host"], "cpu": "another"}, "p50_ms": {key: 0.25}}
    found = {}
    for label, records in (("own", [other, own]), ("other", [other]), ("none", [])):
        monkeypatch.setattr(choose, "records", lambda kept=records: kept)
        everything = {c.name: c for c in choose.candidates("onnxruntime")}
        assert set(everything) == set(zoo.names())
        found[label] = everything[name]
    assert found["own"].recorded and found["own"].latency_ms == 0.125
    assert not found["other"].recorded and found["other"].latency_ms > 0.01
    assert not found["none"].recorded
    threaded = {c.name: c for c in choose.candidates("onnxruntime", threads=1)}
    assert not threaded[name].recorded


def test_best_opens_it() -> None:
    with Classifier.best(max_mb=2, device="onnxruntime") as classifier:
        assert zoo.entry(classifier.name).bytes <= 2e6 and "onnxruntime" in classifier.backend
    with pytest.raises(ModelError, match="no shipped model fits"):
        Classifier.best(0.0001)
    with pytest.raises(BackendError, match="expected one of"):
        Classifier.best(device="tpu")


def test_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--max-mb", "2", "--device", "onnxruntime", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["name"] in zoo.names() and err.count("\n# ") + 1 == len(zoo.names())
    assert main(["models", "--min-accuracy", "100"]) == 2
    assert "no shipped model fits" in capsys.readouterr().err
