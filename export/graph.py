"""Torch network to ONNX file, and the metadata inside it."""

from __future__ import annotations

import subprocess
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Optional, Union

import onnx
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from gender_edge.spec import METADATA_KEY, DetectorSpec, ModelSpec

from .architectures import Network, in_colour
from .files import fresh, replacing
from .runs import finished, trained_size, weights_in

OPSET = 17  # the newest that TensorRT 8.6 parses
INPUT, OUTPUT = "images", "logits"


def export(network: Network, size: int, path: Path) -> None:
    """Write a classifier as FP32 ONNX: uint8 NHWC of dynamic batch in, logits out."""
    trace(in_colour(network), (size, size), path, [OUTPUT], {INPUT: {0: "N"}, OUTPUT: {0: "N"}})


def trace(
    network: nn.Module,
    shape: tuple[int, int],
    path: Path,
    outputs: Sequence[str],
    axes: Mapping[str, Mapping[int, str]],
) -> None:
    """Write a network that takes uint8 NHWC pixels as FP32 ONNX, BatchNorm folded.

    The TorchScript exporter is used on purpose: it folds BatchNorm and writes opset 17 itself,
    while the newer one starts at 18 and converts down.

    Args:
        shape: height and width of the example that it is traced with.
        outputs: their names.
        axes: the dynamic axes of input and outputs, and what to call them.
    """
    example = torch.zeros(2, *shape, 3, dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            network.eval().float(),
            (example,),
            str(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=list(outputs),
            dynamic_axes=axes,
        )


def of_run(run: Path) -> Path:
    """RUN/fp32.onnx from the weights of a finished run, unless it is there and newer.

    Raises:
        DataError: the run is not there or not finished.
    """
    target = run / "fp32.onnx"
    if not fresh(target, weights_in(run)):
        with replacing(target) as partial:
            export(finished(run), trained_size(run), partial)
    return target


def cost(network: nn.Module, height: int, width: Optional[int] = None) -> tuple[int, int]:
    """Parameters, and multiply-accumulates for one picture, which is square unless told."""
    parameters = sum(p.numel() for p in network.parameters())
    return parameters, macs_by_module(network, height, width or height)[""]


def macs_by_module(network: nn.Module, height: int, width: int) -> dict[str, int]:
    """Multiply-accumulates for one picture, by name of the module that spends them; "" is all."""
    counter = FlopCounterMode(display=False)
    device = next(network.parameters()).device
    with counter, torch.inference_mode():
        network.eval()(torch.zeros(1, height, width, 3, dtype=torch.uint8, device=device))
    root = type(network).__name__
    return {
        name.removeprefix(root).removeprefix("."): sum(flops.values()) // 2
        for name, flops in counter.get_flop_counts().items()
    }


def write_spec(source: Path, spec: Union[ModelSpec, DetectorSpec], target: Path) -> None:
    """Copy an ONNX file with the spec as its only metadata, and no operator sets but its own."""
    model = onnx.load(source)
    used = {node.domain for node in model.graph.node}
    for entry in [e for e in model.opset_import if e.domain not in used]:
        model.opset_import.remove(entry)
    del model.metadata_props[:]
    model.metadata_props.add(key=METADATA_KEY, value=spec.to_json())
    onnx.checker.check_model(model)
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as partial:
        onnx.save(model, partial)


def revision() -> str:
    """The git revision of this tree, marked where files differ from it; "unknown" without git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    folder = Path(__file__).parent
    try:
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except OSError:  # it is not installed
        return "unknown"
    return result.stdout.strip() or "unknown"
