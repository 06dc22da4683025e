from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from export.architectures import FaceMobileNet, build
from export.architectures.face_mobilenet import load_face_gender
from export.architectures.trunks import Trunks
from gender_edge import DataError


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights as published: TensorFlow's order of axes, the batch normalisation's factors beside
    the depthwise kernels and inside the others; here in 16 bits, which is published too.
    """
    rng, entries, raw = np.random.default_rng(0), [], b""

    def add(name: str, shape: tuple[int, ...]) -> None:
        nonlocal raw
        packing = {"dtype": "float16", "original_dtype": "float32"}
        entries.append(
            {"name": name, "shape": list(shape), "dtype": "float32", "quantization": packing}
        )
        raw += rng.uniform(-0.5, 0.5, shape).astype(np.float16).tobytes()

    for number, layer in enumerate([FaceMobileNet().stem, *FaceMobileNet().layers]):
        outputs, inputs, side, _ = layer.weight.shape
        name = "conv1" if not number else f"conv_{'dw' if number % 2 else 'pw'}_{(number + 1) // 2}"
        if layer.groups > 1:
            add(f"{name}/depthwise_kernel", (side, side, outputs, 1))
            add(f"{name}_bn/batchnorm_1/mul", (outputs,))
        else:
            add(f"{name}/convolution/merged_input", (side, side, inputs, outputs))
        add(f"{name}_bn/batchnorm_1/sub", (outputs,))
    folder = tmp_path_factory.mktemp("face")
    (folder / "faceres.bin").write_bytes(raw)
    manifest = [{"paths": ["faceres.bin"], "weights": entries}]
    (folder / "faceres.json").write_text(json.dumps({"weightsManifest": manifest}))
    return folder / "faceres.json"


def test_first_layers_are_the_published_ones(model: Path) -> None:
    network = FaceMobileNet()
    Trunks(face=model).load(network)
    stored = np.frombuffer((model.parent / "faceres.bin").read_bytes(), np.float16)
    shapes = [(3, 3, 3, 32), (32,), (3, 3, 32, 1), (32,), (32,)]
    ends = np.cumsum([np.prod(shape) for shape in shapes])
    parts = [torch.tensor(p.astype(np.float32)) for p in np.split(stored, ends)[:-1]]
    stem, stem_bias, deep, factor, bias = (p.view(s) for p, s in zip(parts, shapes))

    x = torch.randn(2, 3, 8, 8)
    padded = functional.pad(x, (0, 1, 0, 1))  # TensorFlow's "SAME" at stride 2
    y = functional.conv2d(padded, stem.permute(3, 2, 0, 1), stem_bias, stride=2).clamp(0, 6)
    z = functional.conv2d(y, deep.permute(2, 3, 0, 1), groups=32, padding=1)
    z = (z * factor.view(1, -1, 1, 1) + bias.view(1, -1, 1, 1)).clamp(0, 6)
    torch.testing.assert_close(network.layers[0](network.stem(x)), z, atol=1e-5, rtol=1e-5)


def test_embedding_is_the_last_maps_mean() -> None:
    network = build("face_mobilenet", {}, grayscale=False).eval()
    logits, embedding = network.answer(torch.zeros(1, 64, 64, 3, dtype=torch.uint8))
    assert logits.shape == (1, 2) and embedding.shape == (1, 1024)


def test_other_files_are_told(model: Path, tmp_path: Path) -> None:
    network = FaceMobileNet()
    with pytest.raises(DataError, match="--face-init"):
        Trunks().load(network)
    for content in ("[]", "{}", "no json", model.read_text()):  # the last lacks its .bin
        (tmp_path / "faceres.json").write_text(content)
        with pytest.raises(DataError, match="not the weights of HSE-FaceRes"):
            load_face_gender(network, tmp_path / "faceres.json")
