from __future__ import annotations

import configparser
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from gender_edge import Classifier, ModelError, deploy, zoo
from gender_edge.cli import main
from gender_edge.engines import spec_of

# What nvinfer's property parser knows (gstnvinfer_property_parser.h of DeepStream 6 and later), as
# far as a secondary classifier has use for it.
NVINFER = {
    *("gpu-id", "process-mode", "network-type", "onnx-file", "model-engine-file"),
    *("labelfile-path", "infer-dims", "batch-size", "network-mode", "net-scale-factor", "offsets"),
    *("model-color-format", "maintain-aspect-ratio", "symmetric-padding", "output-blob-names"),
    *("classifier-type", "classifier-threshold", "input-object-min-width"),
    *("input-object-min-height", "gie-unique-id", "operate-on-gie-id"),
}


def test_triton_reads_the_configuration(shipped: str, tmp_path: Path) -> None:
    """By Triton's own schema, and it says what the model is."""
    schema = pytest.importorskip("tritonclient.grpc.model_config_pb2")
    text_format = pytest.importorskip("google.protobuf.text_format")
    home = deploy.triton(shipped, tmp_path)
    config: Any = text_format.Parse((home / "config.pbtxt").read_text(), schema.ModelConfig())
    assert config.name == home.name == shipped
    session = onnxruntime.InferenceSession((home / "1" / "model.onnx").read_bytes())
    for described, real in (
        (config.input[0], session.get_inputs()[0]),
        (config.output[0], session.get_outputs()[0]),
    ):
        assert described.name == real.name and list(described.dims) == real.shape[1:]
    assert config.input[0].data_type == schema.TYPE_UINT8
    assert config.output[0].data_type == schema.TYPE_FP32
    assert config.max_batch_size == deploy.MAX_BATCH
    assert list(config.model_warmup[0].inputs["images"].dims) == list(config.input[0].dims)
    labels = (home / config.output[0].label_filename).read_text().split()
    with Classifier(shipped, device="onnxruntime") as classifier:
        assert tuple(labels) == classifier.spec.labels


def test_nvinfer_finds_its_keys_and_files(shipped: str, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    home = deploy.deepstream(shipped, tmp_path)
    config = configparser.ConfigParser()
    config.read(home / "config_infer_secondary.txt")
    own = config["property"]
    assert config.sections() == ["property"] and set(own) <= NVINFER
    session = onnxruntime.InferenceSession((home / own["onnx-file"]).read_bytes())
    dims = [int(v) for v in own["infer-dims"].split(";")]
    assert session.get_inputs()[0].shape[1:] == dims
    assert [o.name for o in session.get_outputs()] == [own["output-blob-names"]]
    spec = spec_of(zoo.read(shipped), shipped)
    assert tuple((home / own["labelfile-path"]).read_text().strip().split(";")) == spec.labels
    assert own["network-mode"] == str({"fp32": 0, "int8": 1}[spec.precision])


def test_the_planar_network_answers_the_same(
    shipped: str, face: np.ndarray, tmp_path: Path
) -> None:
    """Probabilities, from the pixels that nvinfer would give it."""
    pytest.importorskip("onnx")
    home = deploy.deepstream(shipped, tmp_path)
    session = onnxruntime.InferenceSession((home / "model.onnx").read_bytes())
    with Classifier(shipped, device="onnxruntime") as classifier:
        crops = np.stack([classifier.crop(face), classifier.crop(face[:, ::-1].copy())])
        expected = classifier.probabilities(crops)
    pixels = crops.transpose(0, 3, 1, 2).astype(np.float32)
    (found,) = session.run(None, {"pixels": pixels})
    int8 = shipped.endswith("_int8")  # rounded in steps of another width, see symmetric.py
    np.testing.assert_allclose(found, expected, atol=0.1 if int8 else 1e-5)
    spec = spec_of(zoo.read(shipped), shipped)
    before = onnxruntime.InferenceSession(deploy.planar(zoo.read(shipped), spec))
    np.testing.assert_allclose(before.run(None, {"pixels": pixels})[0], expected, atol=1e-5)


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnx")
    for server, file in (("triton", "config.pbtxt"), ("deepstream", "config_infer_secondary.txt")):
        assert main(["deploy", server, str(tmp_path)]) == 0
        written = capsys.readouterr().out.splitlines()
        assert any(path.endswith(file) for path in written)
        assert all(Path(path).stat().st_size for path in written)
    labels = tmp_path / zoo.default() / "labels.txt"
    assert labels.read_text().split() == ["female", "male"]  # one server's are not the other's
    assert main(["deploy", "triton", str(tmp_path), "--model", "none"]) == 2
    assert main(["deploy", "triton", str(labels)]) == 2
    with pytest.raises(ModelError):
        deploy.deepstream(str(tmp_path / "none.onnx"), tmp_path)
