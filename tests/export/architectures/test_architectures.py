from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors.torch import save_file

from export import graph
from export.architectures import VGG, VGG_WIDTHS, Slim, build
from export.architectures.vgg import load_imagenet, load_trunk
from export.evaluation.calibrate import abstention_thresholds, fit_temperature
from export.training.initial import as_gray
from gender_edge import DataError

SMALL = [[4], [6], [8], [8], [8]]


def test_published_parameter_counts() -> None:
    """Convolutions as published (VGG16: 14,714,688), and one dense layer of two logits."""
    convolutions = {"vgg11": 9_220_480, "vgg13": 9_404_992, "vgg16": 14_714_688}
    convolutions["vgg19"] = 20_024_384
    assert set(convolutions) == set(VGG_WIDTHS)
    for name, count in convolutions.items():
        with torch.device("meta"):
            network = VGG(name)
        assert sum(p.numel() for p in network.features.parameters()) == count
        assert sum(p.numel() for p in network.head.parameters()) == 2 * 512 + 2


def test_cost_counts_multiply_accumulates() -> None:
    network = build("slim", {"stem": 4, "widths": [[5]]}, grayscale=False)
    parameters, macs = graph.cost(network, 16)
    assert macs == 8 * 8 * (27 * 4 + 36 * 5) + 5 * 2
    assert parameters == 27 * 4 + 36 * 5 + 2 * (4 + 5) + 5 * 2 + 2


def test_luminance_is_opencvs() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (1, 9, 9, 3), np.uint8)
    network = build("slim", {"stem": 4, "widths": [[4]]}, grayscale=True)
    found = network.normalise(torch.from_numpy(pixels))[0, 0] * 128 + 128
    expected = cv2.cvtColor(pixels[0], cv2.COLOR_BGR2GRAY)
    np.testing.assert_allclose(found.numpy(), expected, atol=0.51)


@pytest.mark.parametrize(
    ("architecture", "arguments"),
    [("slim", {"stem": 4, "widths": [[4], [8]]}), ("vgg", {"widths": [[4], [6]]})],
)
def test_gray_start_answers_like_colour_on_gray_pictures(
    architecture: str, arguments: dict[str, Any]
) -> None:
    """Exactly, but for the first layer's padding where the channels' means differ."""
    torch.manual_seed(0)
    colour = build(architecture, arguments, grayscale=False).eval()
    gray = build(architecture, arguments, grayscale=True).eval()
    gray.load_state_dict(as_gray(colour.state_dict()))
    pixels = torch.randint(0, 256, (3, 32, 32, 1), dtype=torch.uint8).expand(-1, -1, -1, 3)
    first = [n.trunk.features[0](n.normalise(pixels))[..., 1:-1, 1:-1] for n in (gray, colour)]
    torch.testing.assert_close(*first, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("grayscale", [True, False])
def test_exported_file_answers_like_the_network(grayscale: bool, tmp_path: Path) -> None:
    """A network of luminance becomes one of colours, and one mean is subtracted as one number."""
    torch.manual_seed(0)
    network = build("slim", {"stem": 4, "widths": [[4], [8]]}, grayscale).eval()
    graph.export(network, 32, tmp_path / "a.onnx")
    pixels = torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8)
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx")
    found = session.run(None, {graph.INPUT: pixels.numpy()})[0]
    np.testing.assert_allclose(found, network(pixels).detach().numpy(), atol=1e-4)
    model = onnx.load(tmp_path / "a.onnx").graph
    constants = {i.name: onnx.numpy_helper.to_array(i) for i in model.initializer}
    steps = [n.op_type for n in model.node if n.name.startswith("/normalise/")]
    assert [s for s in steps if s != "Constant"] == ["Cast", "Transpose", "Sub", "Mul"]
    subtract = next(n for n in model.node if n.op_type == "Sub")
    assert constants[subtract.input[1]].size == 1
    first = next(n for n in model.node if n.op_type == "Conv")
    assert constants[first.input[1]].shape == (4, 3, 3, 3)


def test_trunk_file_fills_the_convolutions(tmp_path: Path) -> None:
    donor, network = VGG(SMALL), VGG(SMALL)
    state = {f"features.{k}": v.half() for k, v in donor.features.state_dict().items()}
    save_file(state, tmp_path / "trunk.safetensors")
    load_trunk(network, str(tmp_path / "trunk.safetensors"))
    for key, value in donor.features.state_dict().items():
        torch.testing.assert_close(network.features.state_dict()[key], value.half().float())
    scaled = VGG(SMALL, scale=1 / 64)
    load_trunk(scaled, str(tmp_path / "trunk.safetensors"))
    x = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(scaled.embed(x / 64), network.embed(x))


def test_imagenet_weights_see_the_same_picture() -> None:
    """torchvision's VGG on its own input, against ours on pixels, away from the padding."""
    torchvision = pytest.importorskip("torchvision")
    torch.manual_seed(0)
    published = torchvision.models.vgg11(weights=None).eval()
    ours = build("vgg", {"widths": "vgg11"}, grayscale=False).eval()
    load_imagenet(ours.trunk, published.state_dict())
    pixels = torch.randint(0, 256, (1, 32, 32, 3), dtype=torch.uint8)
    mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    deviation = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    standard = (pixels.flip(3).permute(0, 3, 1, 2) / 255 - mean) / deviation
    first, theirs = ours.trunk.features[0], published.features[0]
    found = first(ours.normalise(pixels))[..., 1:-1, 1:-1]
    torch.testing.assert_close(found, theirs(standard)[..., 1:-1, 1:-1], atol=1e-4, rtol=1e-4)


def test_unknown_architecture() -> None:
    with pytest.raises(DataError, match="slim, vgg"):
        build("resnet", {}, grayscale=False)


def test_any_even_input_size_works() -> None:
    for network in (Slim(4, [[4], [4]]), VGG(SMALL)):
        for size in (32, 48, 80):
            assert network.eval()(torch.zeros(2, 3, size, size)).shape == (2, 2)


def test_temperature_is_recovered() -> None:
    rng = np.random.default_rng(0)
    log_odds = rng.normal(0, 2, 40_000)
    truth = (rng.random(40_000) > 1 / (1 + np.exp(-log_odds))).astype(int)
    logits = np.stack([log_odds, np.zeros_like(log_odds)], 1)
    assert fit_temperature(3 * logits, truth, np.ones(40_000)) == pytest.approx(3, rel=0.05)


def test_thresholds_hold_the_error() -> None:
    rng = np.random.default_rng(0)
    log_odds = rng.normal(0, 3, 20_000)
    truth = (rng.random(20_000) > 1 / (1 + np.exp(-log_odds))).astype(int)
    logits = np.stack([log_odds, np.zeros_like(log_odds)], 1)
    female = 1 / (1 + np.exp(-log_odds))
    weights = np.ones(20_000)
    limits = abstention_thresholds(logits, truth, weights, 1.0, error=0.02)
    for number, (label, confidence) in enumerate((("female", female), ("male", 1 - female))):
        given = confidence >= max(limits[label], 0.5)
        assert (truth[given] != number).mean() <= 0.021
        assert given.sum() > 1000
    never = abstention_thresholds(logits, truth, weights, 1.0, error=0.9)
    assert never == {"female": 0.5, "male": 0.5}
