from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.evaluation import card
from gender_edge import measures, zoo


@pytest.fixture
def content() -> dict[str, Any]:
    """A shipped model's evaluation, with all that evaluations have today."""
    own: dict[str, Any] = json.loads(json.dumps(zoo.entry(zoo.default()).evaluation))
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.5, 1, 400)
    right = rng.random(400) < confidence
    for figures in own["sets"].values():
        figures["risk_coverage"] = measures.risk_coverage(confidence, right)
        for key in ("ece", "ece_uncalibrated"):
            figures[key] = measures.calibration_error(confidence, right)
    for row in own["robustness"].values():
        row.update({key: measures.proportion(right) for key in row})
    own["validation"] = {"sets": ["celeba_trainval:val"], "abstain_error": 0.02}
    return own


def text(content: dict[str, Any], folder: Path) -> str:
    (folder / "evaluation.json").write_text(json.dumps(content))
    (folder / "model.onnx").write_bytes(b"network")
    return card.text(folder)


def test_every_figure_has_its_interval(content: dict[str, Any], tmp_path: Path) -> None:
    found = text(content, tmp_path)
    rows = [line for line in found.splitlines() if line.startswith(("| lfw | ", "| blur | "))]
    accuracy, certainty, risk, blur = ([c.strip() for c in r.split("|")[2:-1]] for r in rows)
    assert len(risk) == 6 and len(blur) == 3
    assert all("to" in cell for cell in (*accuracy[1:], *certainty[:2], *risk, *blur))
    point = content["sets"]["lfw"]["risk_coverage"][0]
    assert risk[0].startswith(f"{100 * point['risk']:.1f} ({100 * point['low']:.1f} to ")
    assert "at most 2 % of the\nlabels given are wrong" in found


@pytest.mark.parametrize("where", ["", "tested", "trained", "validated"])
def test_lfw_is_said_to_be_new_only_where_it_is(
    content: dict[str, Any], tmp_path: Path, where: str
) -> None:
    if where == "tested":
        for part in (content, content.get("twin", {})):
            part["sets"].pop("lfw")
        content["against"] = []
    elif where == "trained":
        content["spec"]["trained_on"].append("lfw:benchmark")
    elif where == "validated":
        content["validation"]["sets"].append("lfw:benchmark")
    assert ("LFW was never trained or tuned on" in text(content, tmp_path)) == (not where)


def test_the_share_of_the_error_that_is_the_labels(content: dict[str, Any], tmp_path: Path) -> None:
    for figures in content["sets"].values():
        del figures["label_noise"]
    assert "confident learning" not in text(content, tmp_path)
    content["sets"]["lfw"]["accuracy"]["value"] = 0.9
    content["sets"]["lfw"]["label_noise"] = 0.02
    assert "that differ from the label, in %: lfw 2.0 of 10.0." in text(content, tmp_path)
