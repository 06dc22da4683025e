from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from export.architectures import FaceResNet, build
from export.architectures.face_resnet import load_face_recognition
from export.architectures.trunks import Trunks
from gender_edge import DataError


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights as published: TensorFlow's order of axes, a scale layer behind each convolution,
    some tensors in 8 bits.
    """
    rng, entries, raw = np.random.default_rng(0), [], b""
    network = FaceResNet()
    names = ["conv32_down"]
    names += [f"{b}/conv{n}" for b in _block_names() for n in (1, 2)]
    convolutions = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d)]
    for name, convolution in zip(names, convolutions):
        outputs, inputs, height, width = convolution.weight.shape
        for part, shape in (
            ("conv/filters", (height, width, inputs, outputs)),
            ("conv/bias", (outputs,)),
            ("scale/weights", (outputs,)),
            ("scale/biases", (outputs,)),
        ):
            entry: dict[str, Any] = {
                "name": f"{name}/{part}",
                "shape": list(shape),
                "dtype": "float32",
            }
            if part == "conv/filters":
                entry["quantization"] = {"dtype": "uint8", "scale": 0.001, "min": -0.1}
                raw += rng.integers(0, 256, shape, np.uint8).tobytes()
            else:
                raw += rng.uniform(0.5, 1, shape).astype(np.float32).tobytes()
            entries.append(entry)
    folder = tmp_path_factory.mktemp("face")
    (folder / "weights.bin").write_bytes(raw)
    file = folder / "manifest.json"
    file.write_text(json.dumps([{"weights": entries, "paths": ["weights.bin"]}]))
    return file


def _block_names() -> list[str]:
    return [
        *("conv32_1", "conv32_2", "conv32_3"),
        *("conv64_down", "conv64_1", "conv64_2", "conv64_3"),
        *("conv128_down", "conv128_1", "conv128_2"),
        *("conv256_down", "conv256_1", "conv256_2", "conv256_down_out"),
    ]


def test_scale_layers_are_folded_and_channels_turned(manifest: Path) -> None:
    network = build("face_resnet", {}, grayscale=False).trunk
    Trunks(face=manifest).load(network)
    stored = (manifest.parent / "weights.bin").read_bytes()
    kernels = np.frombuffer(stored, np.uint8, 7 * 7 * 3 * 32).reshape(7, 7, 3, 32) * 0.001 - 0.1
    rest = np.frombuffer(stored, np.float32, 96, kernels.size).reshape(3, 32)
    bias, scale, shift = (torch.tensor(own) for own in rest)
    rgb = torch.rand(2, 3, 20, 20)
    weight = torch.tensor(kernels, dtype=torch.float32).permute(3, 2, 0, 1)
    published = functional.conv2d(rgb, weight, bias, stride=2)
    published = published * scale.view(1, -1, 1, 1) + shift.view(1, -1, 1, 1)
    torch.testing.assert_close(network.stem(rgb.flip(1)), published, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("side", [104, 111, 112, 128, 150])
def test_any_side_works(side: int) -> None:
    """The mean pool and the convolution without padding differ by a row at some sizes."""
    network = build("face_resnet", {}, grayscale=False).eval()
    logits, embedding = network.answer(torch.zeros(1, side, side, 3, dtype=torch.uint8))
    assert logits.shape == (1, 2) and embedding.shape == (1, network.trunk.width)


def test_other_files_are_told(manifest: Path, tmp_path: Path) -> None:
    network = FaceResNet()
    with pytest.raises(DataError, match="--face-init"):
        Trunks().load(network)
    (tmp_path / "manifest.json").write_text("[]")
    with pytest.raises(DataError, match="not the weights of the face recognition network"):
        load_face_recognition(network, tmp_path / "manifest.json")
    (tmp_path / "manifest.json").write_text(manifest.read_text())
    (tmp_path / "weights.bin").write_bytes(b"0" * 1000)
    with pytest.raises(DataError, match="not the weights of the face recognition network"):
        load_face_recognition(network, tmp_path / "manifest.json")
    with pytest.raises(DataError, match="there is none for Slim"):
        Trunks().load(build("slim", {"stem": 4, "widths": [[4]]}, False).trunk)
