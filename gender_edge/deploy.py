"""A model for others' servers: a Triton model repository, a DeepStream secondary classifier.

Everything in the written files comes from the model's own metadata. Neither server applies the
model's crop rule; each written README says what that asks of whoever feeds it. Never run inside
Triton or DeepStream so far; what is written is checked against Triton's schema and nvinfer's
documented keys, and the network derived for DeepStream against the original.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Union

from . import zoo
from .engines import spec_of
from .errors import DataError, ModelError
from .rewriting import onnx_package
from .spec import ModelSpec
from .symmetric import symmetric

MAX_BATCH = 64
DELAY_US = 2000  # microseconds that Triton waits to fill a batch
MODES = {"fp32": 0, "int8": 1, "fp16": 2}  # nvinfer's network-mode


def triton(model: str, folder: Path) -> Path:
    """Write a Triton model repository, for `tritonserver --model-repository FOLDER`.

    Input: uint8 (N, S, S, 3) crops in the model's colour order. Output: logits (N, 2).

    Args:
        model: shipped name or ONNX file.
        folder: of the repository; the model becomes a folder in it.

    Raises:
        ModelError: the model cannot be read.
        DataError: the folder cannot be written.
    """
    content = zoo.read(model)
    spec = spec_of(content, model)
    return write_files(
        Path(folder) / spec.name,
        {
            "1/model.onnx": content,
            "labels.txt": "\n".join(spec.labels) + "\n",
            "config.pbtxt": _pbtxt(spec),
            "README.md": _about(spec, TRITON),
        },
    )


def _pbtxt(spec: ModelSpec) -> str:
    side = spec.input_size
    return f"""\
name: "{spec.name}"
platform: "onnxruntime_onnx"
max_batch_size: {MAX_BATCH}
input [ {{ name: "images" data_type: TYPE_UINT8 dims: [ {side}, {side}, 3 ] }} ]
output [ {{ name: "logits" data_type: TYPE_FP32 dims: [ 2 ] label_filename: "labels.txt" }} ]
dynamic_batching {{ preferred_batch_size: [ 8, 32 ] max_queue_delay_microseconds: {DELAY_US} }}
model_warmup [ {{
  name: "one face" batch_size: 1
  inputs {{
    key: "images"
    value {{ data_type: TYPE_UINT8 dims: [ {side}, {side}, 3 ] zero_data: true }}
  }}
}} ]
parameters {{ key: "temperature" value {{ string_value: "{spec.temperature:.6g}" }} }}
"""


def deepstream(model: str, folder: Path) -> Path:
    """Write an nvinfer configuration for a secondary classifier, and the network it wants.

    That network takes float (N, 3, S, S) pixels from 0 to 255 and gives calibrated probabilities.

    Args:
        model: shipped name or ONNX file.
        folder: what to write into.

    Raises:
        ModelError: the model cannot be read, or is not one of ours.
        BackendError: the `onnx` package is missing.
        DataError: the folder cannot be written.
    """
    content = zoo.read(model)
    spec = spec_of(content, model)
    return write_files(
        Path(folder) / f"{spec.name}_deepstream",
        {
            "model.onnx": symmetric(planar(content, spec)),
            "labels.txt": ";".join(spec.labels) + "\n",
            "config_infer_secondary.txt": _nvinfer(spec),
            "README.md": _about(spec, DEEPSTREAM),
        },
    )


def write_files(home: Path, files: Mapping[str, Union[str, bytes]]) -> Path:
    """Write files by their paths in a folder, which is made where it is missing; returns it.

    Raises:
        DataError: the folder cannot be written.
    """
    try:
        for name, content in files.items():
            path = home / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
    except OSError as error:
        raise DataError(f"{home}: cannot be written ({error}); name another folder") from error
    return home


def _nvinfer(spec: ModelSpec) -> str:
    side = spec.input_size
    threshold = max(spec.abstain_below.values(), default=0.5)  # nvinfer has one for all labels
    return f"""\
# {spec.name}: apparent gender, by the binary labels of its training sets; not identity.
[property]
gpu-id=0
process-mode=2
network-type=1
onnx-file=model.onnx
model-engine-file=model.engine
labelfile-path=labels.txt
infer-dims=3;{side};{side}
batch-size={MAX_BATCH}
network-mode={MODES[spec.precision]}
net-scale-factor=1.0
offsets=0;0;0
model-color-format={int(spec.color_order == "bgr")}
maintain-aspect-ratio=1
symmetric-padding=1
output-blob-names=probabilities
classifier-type=apparent-gender
classifier-threshold={threshold:.4f}
input-object-min-width=24
input-object-min-height=24
gie-unique-id=2
operate-on-gie-id=1
"""


def planar(content: bytes, spec: ModelSpec) -> bytes:
    """The same network for float NCHW pixels from 0 to 255, with calibrated probabilities.

    Raises:
        BackendError: the `onnx` package is missing.
        ModelError: the graph does not begin as the workshop's do.
    """
    onnx = onnx_package()
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    network = onnx.load_from_string(content)
    graph = network.graph
    cast, turn = _head(graph, spec.name)
    batch = graph.input[0].type.tensor_type.shape.dim[0].dim_param or "N"
    shape = [batch, 3, spec.input_size, spec.input_size]
    graph.input[0].CopyFrom(helper.make_tensor_value_info("pixels", TensorProto.FLOAT, shape))
    for node in graph.node:
        node.input[:] = ["pixels" if name == turn.output[0] else name for name in node.input]
    for node in (cast, turn):
        graph.node.remove(node)
    logits = graph.output[0].name
    graph.initializer.append(
        numpy_helper.from_array(np.array(1 / spec.temperature, np.float32), "sharpness")
    )
    graph.node.append(helper.make_node("Mul", [logits, "sharpness"], ["calibrated"]))
    graph.node.append(helper.make_node("Softmax", ["calibrated"], ["probabilities"], axis=1))
    graph.output[0].CopyFrom(
        helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [batch, 2])
    )
    onnx.checker.check_model(network)
    return bytes(network.SerializeToString())


def _head(graph: Any, name: str) -> tuple[Any, Any]:
    """The cast of the pixels and the turn to planes behind it."""
    images = graph.input[0].name
    for cast in graph.node:
        if cast.op_type == "Cast" and cast.input[0] == images:
            for turn in graph.node:
                if turn.op_type == "Transpose" and turn.input[0] == cast.output[0]:
                    return cast, turn
    raise ModelError(f"{name}: does not begin with a cast and a transpose; export it anew")


def _about(spec: ModelSpec, text: str) -> str:
    thresholds = ", ".join(f"{label} {value:.3f}" for label, value in spec.abstain_below.items())
    return text.format(
        name=spec.name,
        side=spec.input_size,
        order=spec.color_order.upper(),
        margin=spec.crop.box_margin,
        temperature=spec.temperature,
        thresholds=thresholds or "none",
        labels=", ".join(spec.labels),
        license=spec.license,
        batch=MAX_BATCH,
    )


TRITON = """\
# {name} for Triton

Apparent gender by the binary labels of data sets, not identity. Weights: {license}.

Send uint8 crops ({side}, {side}, 3) in {order} order, cut as `gender_edge.Classifier.crop` cuts
them. The answer is two logits ({labels}): divide by {temperature:.4f}, then softmax. Below
P(label) of {thresholds} no label should be given.
"""

DEEPSTREAM = """\
# {name} for DeepStream

Apparent gender by the binary labels of data sets, not identity. Weights: {license}.

`config_infer_secondary.txt` is for nvinfer as a secondary classifier behind a face detector with
gie-unique-id 1. nvinfer cuts the detector's box as it is and does not align faces, while this
network was trained on squares of {margin} times the longer side of the box: widen the boxes by as
much in a probe, and measure before you rely on the accuracy in the model's card.

An INT8 network carries its ranges as Q/DQ nodes, for which nvinfer has no calibration file to ask
for: build its engine beforehand, on the device,

    trtexec --onnx=model.onnx --int8 --fp16 --saveEngine=model.engine \\
      --minShapes=pixels:1x3x{side}x{side} --optShapes=pixels:16x3x{side}x{side} \\
      --maxShapes=pixels:{batch}x3x{side}x{side}
"""
