from __future__ import annotations

import copy
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from export import build as steps
from export import graph, recipe
from export.architectures import Network, build
from export.build import aware_step, quantize_step
from export.compression import rounding
from export.compression.int8 import choose, worst
from export.compression.quantize import WEIGHT_REACH, quantize
from export.data.packs import even_crops
from export.data.prepare import Places, learned_from
from export.evaluation.int8_card import quantization
from export.runs import finished
from export.validate import by_file

SLIM = {"stem": 8, "widths": [[8], [16]]}
LEFT_OVER = {"ptq.onnx", "aware.onnx", "ptq.json", "aware.json"}  # of what was tried


@pytest.fixture
def network() -> Network:
    torch.manual_seed(0)
    return build("slim", SLIM, grayscale=False).train()


def log_odds(logits: np.ndarray) -> np.ndarray:
    return logits[:, 0] - logits[:, 1]


def test_weights_lie_on_the_grid_and_still_learn(network: Network) -> None:
    rounding.begin(network)
    pixels = torch.randint(0, 256, (4, 32, 32, 3), dtype=torch.uint8)
    network(pixels).square().sum().backward()
    convolution = network.trunk.features[3]
    steps = convolution.weight.flatten(1) / convolution.weight.abs().flatten(1).amax(1, True)
    steps = steps * WEIGHT_REACH
    torch.testing.assert_close(steps, steps.round(), atol=1e-3, rtol=0)
    kept = convolution.parametrizations.weight.original
    assert not torch.equal(kept, convolution.weight)
    assert kept.grad is not None and kept.grad.abs().sum() > 0


def test_what_reaches_a_layer_is_rounded(network: Network) -> None:
    seen: list[Tensor] = []
    rounding.begin(network)
    second = network.trunk.features[3]
    second.register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0].detach()))
    network(torch.randint(0, 256, (4, 32, 32, 3), dtype=torch.uint8))
    assert seen[0].min() == 0 and 2 < len(seen[0].unique()) <= 256


def test_the_state_has_names_and_weights_as_before(network: Network) -> None:
    before = {name: value.clone() for name, value in network.state_dict().items()}
    rounding.begin(network)
    after = rounding.state(network)
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_a_copy_knows_the_ranges_that_the_network_saw(network: Network) -> None:
    """As the running average has to, which is only ever asked."""
    rounding.begin(network)
    average = copy.deepcopy(network).eval()
    pixels = torch.randint(0, 256, (4, 32, 32, 3), dtype=torch.uint8)
    network(pixels)
    dark = torch.zeros_like(pixels)
    seen = [hook.range for m in average.modules() for hook in m._forward_pre_hooks.values()]
    average(dark)
    assert len(seen) == 4 and all(kept is not None for kept in seen)
    after = [hook.range for m in average.modules() for hook in m._forward_pre_hooks.values()]
    assert all(torch.equal(a, b) for a, b in zip(seen, after))


def test_it_is_the_rounding_of_the_int8_file(
    built: list[str], places: Places, recipe_file: Path, tmp_path: Path
) -> None:
    """A rounded network answers more like ONNX Runtime's INT8 than the exact one does."""
    tiny = recipe.load(str(recipe_file))
    packs, _ = learned_from(tiny, places)
    crops = even_crops(packs, 64, tiny.input_size)
    exact = finished(places.runs / tiny.name)
    graph.export(exact, tiny.input_size, tmp_path / "fp32.onnx")
    quantize(tmp_path / "fp32.onnx", crops, tmp_path / "int8.onnx", "minmax")
    rounded = finished(places.runs / tiny.name)
    rounding.begin(rounded)
    with torch.inference_mode():
        rounded(torch.from_numpy(crops))  # shows it the ranges
        ours = log_odds(rounded(torch.from_numpy(crops)).numpy())
        plain = log_odds(exact(torch.from_numpy(crops)).numpy())
    wanted = log_odds(by_file(tmp_path / "int8.onnx")(crops))
    assert np.abs(ours - wanted).mean() < 0.75 * np.abs(plain - wanted).mean()


def test_a_loss_past_the_gate_is_taught_away(
    built: list[str],
    places: Places,
    recipe_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A gate that nothing passes: two epochs with rounding follow, kept only if they help."""
    reports: list[dict[str, Any]] = []

    def noted(*arguments: Any) -> dict[str, Any]:
        reports.append(choose(*arguments))
        return reports[-1]

    monkeypatch.setattr(steps.int8, "choose", noted)
    shutil.copytree(places.runs, tmp_path / "runs")  # the session's own stay as built
    places = replace(places, runs=tmp_path / "runs")
    run = places.runs / "tiny"
    tiny = replace(recipe.load(str(recipe_file)), gate=-101.0, aware_epochs=2)
    source, report_file = run / "fp32.onnx", run / "int8.json"
    before = json.loads(report_file.read_text())
    source.touch()
    quantize_step(tiny, source, places, workers=0)
    report = json.loads(report_file.read_text())
    taught = places.runs / "tiny_aware" / "weights.safetensors"
    first = taught.stat().st_mtime_ns
    aware_step(tiny, places, workers=0)
    assert taught.stat().st_mtime_ns == first
    (run / "weights.safetensors").touch()  # as if trained anew: what was taught on is of no use
    aware_step(tiny, places, workers=0)
    assert taught.stat().st_mtime_ns > first
    _, own = reports
    assert own["validation"]["fp32"] == before["validation"]["fp32"]
    assert (places.runs / "tiny_aware" / "metrics.csv").read_text().count("\n") == 3
    finished(places.runs / "tiny_aware")  # its weights have the names of a plain network's
    better = worst(own) < worst(before)
    assert ("aware" in report) == better == ("with INT8's rounding" in quantization(report))
    assert worst(report) == min(worst(own), worst(before))
    assert not {p.name for p in run.iterdir()} & LEFT_OVER


@pytest.mark.parametrize(("lost", "winner"), [(1.0, "aware"), (3.0, "ptq")])
def test_the_file_is_the_winners_even_after_an_interruption(
    built: list[str],
    places: Places,
    recipe_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    lost: float,
    winner: str,
) -> None:
    """Losses are said here, so that both outcomes are seen; it is TensorRT's form that loses."""

    def choose(source: Path, *others: Any) -> dict[str, Any]:
        target = others[3]
        target.write_text(source.name)
        signed = {"lost_most": 2.0 if source == exact else lost}
        return {"lost_most": 0.0, "symmetric": signed, "validation": {"fp32": {}}}

    def interrupted(*_: Any) -> Path:
        raise InterruptionError

    tiny, exact, target = recipe.load(str(recipe_file)), tmp_path / "ptq", tmp_path / "int8.onnx"
    exact.touch()
    (tmp_path / "config.json").touch()
    monkeypatch.setattr(steps.int8, "choose", choose)
    monkeypatch.setattr(steps, "aware_step", interrupted)
    with pytest.raises(InterruptionError):
        quantize_step(tiny, exact, places)
    assert not target.exists()
    monkeypatch.setattr(steps, "aware_step", lambda *_: tmp_path / "aware")
    assert quantize_step(tiny, exact, places) == target
    assert target.read_text() == winner
    assert worst(json.loads(target.with_suffix(".json").read_text())) == min(lost, 2.0)
    assert not {p.name for p in tmp_path.iterdir()} & LEFT_OVER


class InterruptionError(Exception):
    pass


def test_within_the_gate_nothing_is_taught(built: list[str], places: Places) -> None:
    report = json.loads((places.runs / "tiny" / "int8.json").read_text())
    best = report["validation"][report["ranges"]]
    lost = [report["validation"]["fp32"][name] - own for name, own in best.items()]
    assert report["lost_most"] == pytest.approx(max(lost), abs=1e-3)
    assert "aware" not in report
