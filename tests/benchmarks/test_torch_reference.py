"""The PyTorch network that engines are compared with is the network of the ONNX file."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest

pytest.importorskip("torch", reason="the comparison needs torch")
import onnx
import torch

from benchmarks.torch_reference import Layers
from gender_edge import zoo
from gender_edge.symmetric import symmetric
from tests.conftest import ROOT


def test_layers_answer_like_onnx_runtime(shipped: str) -> None:
    content = zoo.read(shipped)
    model = onnx.load_from_string(content)
    side = model.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    rows = np.random.default_rng(0).integers(0, 256, (6, 5, 5, 3))
    index = np.linspace(0, 4, side).round().astype(int)
    batch = rows[:, index][:, :, index].astype(np.uint8)
    expected = onnxruntime.InferenceSession(content).run(None, {"images": batch})[0]
    with torch.inference_mode():
        found = (
            Layers(onnx.load_from_string(symmetric(content)))
            .eval()(torch.from_numpy(batch))
            .numpy()
        )
    # INT8 files are compared without the rounding of their activations.
    np.testing.assert_allclose(found, expected, atol=1e-3 if "fp32" in shipped else 0.6)


def test_it_prints_what_it_measured() -> None:
    path = str(ROOT / "models" / "slim_fp32" / "model.onnx")
    command = [sys.executable, "-m", "benchmarks.torch_reference", path]
    command += ["--batches", "2", "--device", "cpu", "--no-compile"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    row = found["models"][path][0]
    assert found["device"] == "cpu" and row["batch"] == 2 and row["eager"] > 0
