from __future__ import annotations

import configparser
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from gender_edge import Classifier, ModelError, deploy, zoo
from gender_edge.cli import main
from gender_edge.engines import spec_of

WHOLE = re.compile(r"\d+")
NUMBER = re.compile(r"\d+(\.\d+)?")
SHARE = re.compile(r"0(\.\d+)?|1(\.0+)?")
FILE = re.compile(r"[\w.-]+")
ANY = re.compile(r".+")

# The keys of [property] in NVIDIA's documentation of Gst-nvinfer (DeepStream 6 to 8) and the parser
# that it publishes, with what a value looks like: exactly so for those that a secondary classifier
# needs. (The documentation's numbers: process-mode 2 is secondary, network-type 1 a classifier;
# model-color-format 0 RGB, 1 BGR, 2 grey; network-mode 0 FP32, 1 INT8, 2 FP16, 3 best.)
PROPERTY = {
    **dict.fromkeys(("gpu-id", "interval", "secondary-reinfer-interval", "use-dla-core"), WHOLE),
    **dict.fromkeys(("batch-size", "gie-unique-id"), re.compile(r"[1-9]\d*")),
    "operate-on-gie-id": re.compile(r"-1|\d+"),
    **dict.fromkeys(("operate-on-class-ids", "filter-out-class-ids"), re.compile(r"\d+(;\d+)*;?")),
    "process-mode": re.compile("[12]"),
    "network-type": re.compile("[0-3]|100"),
    "network-mode": re.compile("[0-3]"),
    "network-input-order": re.compile("[012]"),
    "model-color-format": re.compile("[012]"),
    "infer-dims": re.compile(r"\d+;\d+;\d+"),
    "net-scale-factor": NUMBER,
    "offsets": re.compile(r"\d+(\.\d+)?(;\d+(\.\d+)?){2}"),
    **dict.fromkeys(("maintain-aspect-ratio", "symmetric-padding"), re.compile("[01]")),
    **dict.fromkeys(("classifier-threshold", "segmentation-threshold"), SHARE),
    "classifier-type": re.compile(r"[\w-]+"),
    "classifier-async-mode": re.compile("[01]"),
    "output-blob-names": re.compile(r"[\w/]+(;[\w/]+)*"),
    **dict.fromkeys(("onnx-file", "model-engine-file", "labelfile-path", "int8-calib-file"), FILE),
    **{
        f"input-object-{end}-{side}": WHOLE
        for end in ("min", "max")
        for side in ("width", "height")
    },
    **dict.fromkeys(
        (
            *("parse-func", "output-tensor-meta", "disable-output-host-copy", "auto-inc-mem"),
            *("max-gpu-mem-per", "enable-dla", "dump-input-tensor", "dump-output-tensor"),
            *("tensor-meta-pool-size", "workspace-size", "is-classifier"),
            *("force-implicit-batch-dim", "output-io-formats", "layer-device-precision"),
            *("mean-file", "scaling-filter", "scaling-compute-hw", "input-tensor-from-meta"),
            *("custom-lib-path", "parse-bbox-func-name", "parse-bbox-instance-mask-func-name"),
            *("engine-create-func-name", "parse-classifier-func-name", "custom-network-config"),
            *("model-file", "proto-file", "uff-file", "uff-input-order", "uff-input-dims"),
            *("input-dims", "uff-input-blob-name", "tlt-encoded-model", "tlt-model-key"),
            *("num-detected-classes", "enable-dbscan", "cluster-mode"),
            *("segmentation-output-order", "output-instance-mask"),
        ),
        ANY,
    ),
}
CLASS_ATTRS = {  # of [class-attrs-all] and [class-attrs-N]: for detectors
    *("threshold", "pre-cluster-threshold", "post-cluster-threshold", "eps", "group-threshold"),
    *("minboxes", "dbscan-min-score", "nms-iou-threshold", "topk", "roi-top-offset"),
    *("roi-bottom-offset", "detected-min-w", "detected-min-h", "detected-max-w", "detected-max-h"),
    *("border-color", "bg-color"),
}


def undocumented(config: configparser.ConfigParser) -> list[str]:
    """What of a configuration nvinfer's documentation does not know."""
    wrong = []
    for name in config.sections():
        attrs = re.fullmatch(r"class-attrs-(all|\d+)", name) is not None
        known = dict.fromkeys(CLASS_ATTRS, ANY) if attrs else PROPERTY if name == "property" else {}
        for key, value in config[name].items():
            if key not in known or not known[key].fullmatch(value):
                wrong.append(f"[{name}] {key}={value}")
    return wrong


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
    assert config.HasField("dynamic_batching")  # without it Triton runs each request alone
    assert config.dynamic_batching.max_queue_delay_microseconds == deploy.DELAY_US
    sizes = list(config.dynamic_batching.preferred_batch_size)
    assert sizes and max(sizes) <= config.max_batch_size
    assert list(config.model_warmup[0].inputs["images"].dims) == list(config.input[0].dims)
    labels = (home / config.output[0].label_filename).read_text().split()
    with Classifier(shipped, device="onnxruntime") as classifier:
        assert tuple(labels) == classifier.spec.labels


def test_nvinfer_finds_its_keys_and_files(shipped: str, tmp_path: Path) -> None:
    """Keys and values are documented ones, and say what the model says of itself."""
    pytest.importorskip("onnx")
    home = deploy.deepstream(shipped, tmp_path)
    config = configparser.ConfigParser()
    config.read(home / "config_infer_secondary.txt")
    assert config.sections() == ["property"] and not undocumented(config)
    own = config["property"]
    session = onnxruntime.InferenceSession((home / own["onnx-file"]).read_bytes())
    spec = spec_of(zoo.read(shipped), shipped)
    dims = [int(v) for v in own["infer-dims"].split(";")]
    assert session.get_inputs()[0].shape[1:] == dims == [3, spec.input_size, spec.input_size]
    assert session.get_inputs()[0].type == "tensor(float)"
    assert [o.name for o in session.get_outputs()] == [own["output-blob-names"]]
    assert tuple((home / own["labelfile-path"]).read_text().strip().split(";")) == spec.labels
    assert (own["process-mode"], own["network-type"]) == ("2", "1")  # a secondary classifier
    assert own["network-mode"] == {"fp32": "0", "int8": "1", "fp16": "2"}[spec.precision]
    assert own["model-color-format"] == {"rgb": "0", "bgr": "1"}[spec.color_order]
    # y = net-scale-factor * (x - offset): the graph wants pixels as they are.
    assert float(own["net-scale-factor"]) == 1 and set(own["offsets"].split(";")) == {"0"}
    assert int(own["batch-size"]) == deploy.MAX_BATCH
    threshold = float(own["classifier-threshold"])
    assert threshold == pytest.approx(max(spec.abstain_below.values(), default=0.5), abs=1e-4)
    assert own["gie-unique-id"] != own["operate-on-gie-id"]


@pytest.mark.parametrize(
    "wrong", ["process-mode=3", "net-scale=1.0", "offsets=0", "network-mode=x"]
)
def test_what_nvinfer_does_not_know_is_found(wrong: str) -> None:
    config = configparser.ConfigParser()
    config.read_string(f"[property]\ngpu-id=0\n{wrong}\n[class-attrs-all]\ntopk=1\n")
    assert undocumented(config) == [f"[property] {wrong}"]
    config.read_string("[class-attrs-all]\ntop=1\n[other]\na=1")
    assert undocumented(config)[1:] == ["[class-attrs-all] top=1", "[other] a=1"]


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
    # INT8 is rounded in steps of twice the width (symmetric.py): of vgg16_p90, an answer of 0.52
    # moves by 0.18.
    int8 = shipped.endswith("_int8")
    np.testing.assert_allclose(found, expected, atol=0.25 if int8 else 1e-5)
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
