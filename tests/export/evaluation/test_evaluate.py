from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import expit, logit

from export import graph, recipe
from export.build import calibrated, describe
from export.data.packs import look
from export.data.prepare import Places
from export.evaluation.evaluate import _uncalibrated, _without_copies, evaluate_step
from export.recipe import Source
from export.runs import finished
from gender_edge import evaluation, measures
from gender_edge.labelled import read_labelled
from gender_edge.lists import write_csv
from gender_edge.samples import Sample


def test_a_network_that_is_too_sure_is_damped(
    built: list[str], places: Places, recipe_file: Path, tmp_path: Path
) -> None:
    """Logits three times as large get a temperature three times as high, on faces of which every
    fifth is said to be what it is not.
    """
    other = {"female": "male", "male": "female"}
    samples = [
        replace(s, split="val", label=s.label if n % 5 else other[s.label])
        for n, s in enumerate(read_labelled(places.data / "faces"))
    ]
    write_csv(samples, tmp_path / "doubtful.csv")
    network = finished(places.runs / "tiny")
    wanted = recipe.load(str(recipe_file))
    wanted = replace(wanted, validate=(Source("doubtful.csv", "val"),))
    places, found = replace(places, data=tmp_path, runs=tmp_path / "runs"), []
    for factor in (1, 3):
        with torch.no_grad():
            for parameter in network.trunk.head.parameters():
                parameter *= factor
        graph.export(network, wanted.input_size, tmp_path / "fp32.onnx")
        spec = describe(wanted, network, "fp32")
        found.append(calibrated(wanted, tmp_path / "fp32.onnx", spec, places))
    assert found[1].temperature == pytest.approx(3 * found[0].temperature, rel=0.05)
    assert found[1].abstain_below == pytest.approx(found[0].abstain_below, abs=0.01)


def test_certainty_before_calibration() -> None:
    """Answers that are right as often as they say, and what they were before their logits were
    divided by three."""
    rng = np.random.default_rng(0)
    female = rng.uniform(0.01, 0.99, 4000)
    labels = np.where(rng.random(4000) < female, "female", "male")
    samples = [Sample(Path("a.png"), str(label)) for label in labels]
    outcome = evaluation.Outcome(samples, female, np.ones(4000, bool), [])
    right = (female >= 0.5) == outcome.truth
    for temperature in (1.0, 3.0):
        before = expit(temperature * logit(female))
        expected = measures.calibration_error(np.maximum(before, 1 - before), right)
        assert _uncalibrated(outcome, temperature) == pytest.approx(expected)


def test_a_test_picture_that_was_learned_from_is_counted(data: Path) -> None:
    """And what was said of it does not count: here it is the only mistake."""
    samples = read_labelled(data / "faces")
    tested, trained = samples[::10], samples[1::10]
    female = np.array([float(s.label == "female") for s in tested])
    female[3] = 1 - female[3]
    outcome = evaluation.Outcome(tested, female, np.ones(len(tested), bool), [])
    clean = _without_copies(outcome, [look(trained)])
    assert clean["count"] == 0 and clean["balanced_accuracy_without"]["value"] < 1
    planted = _without_copies(outcome, [look(trained[:5]), look([*trained, tested[3]])])
    assert planted["count"] == 1 and planted["balanced_accuracy_without"]["value"] == 1


def test_label_noise_is_what_clean_found(
    built: list[str], places: Places, recipe_file: Path, tmp_path: Path
) -> None:
    """Also where it was looked for after a first test."""
    runs = shutil.copytree(places.runs, tmp_path / "runs")
    places, wanted = replace(places, runs=runs), recipe.load(str(recipe_file))

    def tested() -> dict[str, float]:
        report = evaluate_step(wanted, runs / "tiny" / "int8" / "model.onnx", places, shipped=False)
        return json.loads(report.read_text())["sets"]["faces"]

    assert "label_noise" not in tested()
    (runs / "clean").mkdir()
    (runs / "clean" / "noise.json").write_text(json.dumps({"faces:test": {"noise": 0.25}}))
    assert tested()["label_noise"] == 0.25
