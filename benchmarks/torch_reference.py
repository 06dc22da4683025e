"""The same network in PyTorch, and what the machine can do at most: what an engine is compared to.

    python -m benchmarks.torch_reference MODEL.onnx --batches 1,64 [--device cuda]

Needs torch and onnx, which a device does not have: `gpu_check` runs it as a process, with whatever
Python has them. Weights come from the ONNX file itself (INT8 ones dequantised), so that the network
is the one the engine was built from. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from gender_edge.symmetric import symmetric

SECONDS = 1.0  # of each measurement
SIDE = 8192  # of the matrices that the peak is measured with
COPIED = 256 << 20  # bytes


class Layers(nn.Module):
    """One of this package's ONNX graphs as eager PyTorch, without its quantisation.

    The graphs are chains of few kinds of nodes; Q/DQ pairs on activations are left out.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        super().__init__()
        values = _constants(model.graph)
        steps: list[nn.Module] = []
        for node in model.graph.node:
            attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            step = _module(node, attributes, values)
            if step is not None:
                steps.append(step)
        self.steps = nn.Sequential(*steps)

    def forward(self, pixels: Tensor) -> Tensor:
        """uint8 (N, S, S, 3) to logits (N, 2), in the type of the weights."""
        return self.steps(pixels)


def _constants(graph: onnx.GraphProto) -> dict[str, np.ndarray]:
    """Every value that is known before the network runs, INT8 weights as floats."""
    values = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            values[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
        elif node.op_type == "DequantizeLinear" and node.input[0] in values:
            weights, scale = values[node.input[0]], values[node.input[1]]
            by_channel = scale.reshape((-1,) + (1,) * (weights.ndim - 1))  # or one for all
            values[node.output[0]] = weights.astype(np.float32) * by_channel
    return values


class _Call(nn.Module):
    """A step without weights that training would change; its constant moves with the network."""

    def __init__(self, call: Callable[..., Tensor], constant: np.ndarray | None = None) -> None:
        super().__init__()
        self.call = call
        kept = None if constant is None else torch.tensor(np.asarray(constant, np.float32))
        self.register_buffer("constant", kept)

    def forward(self, x: Tensor) -> Tensor:
        return self.call(x) if self.constant is None else self.call(x, self.constant)


def _module(
    node: onnx.NodeProto, attributes: dict[str, Any], values: dict[str, np.ndarray]
) -> nn.Module | None:
    """A node as a module; None for what is not computed here."""
    kind = node.op_type
    weights = [values[name] for name in node.input if name in values]
    if kind in ("Constant", "QuantizeLinear", "DequantizeLinear"):
        return None
    if kind == "Cast":
        return _Call(lambda x, like: x.to(like.dtype), np.zeros(()))
    if kind == "Transpose":
        order = tuple(attributes["perm"])
        return _Call(lambda x: x.permute(order))
    if kind == "Sub":
        return _Call(torch.sub, weights[0])
    if kind == "Mul":
        return _Call(torch.mul, weights[0])
    if kind == "Relu":
        return nn.ReLU()
    if kind == "MaxPool":
        return nn.MaxPool2d(tuple(attributes["kernel_shape"]), tuple(attributes["strides"]))
    if kind == "ReduceMean":
        return _Call(lambda x: x.mean((2, 3)))
    if kind == "Conv":
        return _convolution(weights, attributes)
    if kind == "Gemm":
        dense = nn.Linear(weights[0].shape[1], weights[0].shape[0])
        return _filled(dense, weights)
    raise ValueError(f"{kind} is not in this package's networks; add it to {__name__}")


def _convolution(weights: list[np.ndarray], attributes: dict[str, Any]) -> nn.Module:
    outputs, inputs, *kernel = weights[0].shape
    layer = nn.Conv2d(
        inputs,
        outputs,
        tuple(kernel),  # type: ignore[arg-type]
        tuple(attributes.get("strides", (1, 1))),
        tuple(attributes.get("pads", (0, 0))[:2]),
        bias=len(weights) > 1,
    )
    return _filled(layer, weights)


def _filled(layer: nn.Module, weights: list[np.ndarray]) -> nn.Module:
    with torch.no_grad():
        for parameter, value in zip(layer.parameters(), weights):
            parameter.copy_(torch.tensor(value))
    return layer


def rate(call: Callable[[], Any], device: str, seconds: float = SECONDS) -> float:
    """Calls a second, after a warm-up, the device's queue emptied before and after."""

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    for _ in range(5):
        call()
    wait()
    count, begin = 0, time.perf_counter()
    while (passed := time.perf_counter() - begin) < seconds:
        for _ in range(10):
            call()
        wait()
        count += 10
    return count / passed


@torch.inference_mode()
def peaks(device: str, side: int = SIDE, copied: int = COPIED) -> dict[str, float]:
    """What a large matrix product and a large copy reach: operations and bytes a second."""
    a, b = (torch.randn(side, side, device=device).to(torch.float16) for _ in range(2))
    found = {"fp16_ops": 2 * side**3 * rate(lambda: a @ b, device)}
    if device == "cuda":
        i, j = (
            torch.randint(-127, 127, (side, side), device=device, dtype=torch.int8)
            for _ in range(2)
        )
        found["int8_ops"] = 2 * side**3 * rate(lambda: torch._int_mm(i, j.t()), device)
        host = torch.empty(copied, dtype=torch.uint8).pin_memory()
        there = torch.empty(copied, dtype=torch.uint8, device=device)
        found["upload_bytes"] = copied * rate(lambda: there.copy_(host, non_blocking=True), device)
        other = torch.empty_like(there)
        found["memory_bytes"] = 2 * copied * rate(lambda: other.copy_(there), device)
    return found


@torch.inference_mode()
def measure(path: str, batches: list[int], device: str, compiled: bool) -> list[dict[str, Any]]:
    """Faces a second in FP16 eager and torch.compile, device-resident input, a row a batch."""
    model = onnx.load_from_string(symmetric(Path(path).read_bytes()))  # each ReLU a node
    side = model.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    dtype = torch.float16 if device == "cuda" else torch.float32
    eager = Layers(model).eval().to(device, dtype).to(memory_format=torch.channels_last)
    networks: dict[str, Any] = {"eager": eager}
    if compiled:
        # For each batch size anew: with one for any, the larger ones would be slower.
        networks["compile"] = torch.compile(eager, mode="reduce-overhead", dynamic=False)
    rows = []
    for count in batches:
        crops = torch.randint(0, 256, (count, side, side, 3), dtype=torch.uint8, device=device)
        row: dict[str, Any] = {"batch": count, "dtype": str(dtype).removeprefix("torch.")}
        for name, network in networks.items():
            try:
                row[name] = count * rate(lambda n=network, x=crops: n(x), device)  # type: ignore[misc]
            except Exception as error:  # compile may fail where eager does not
                row[name] = None
                row[f"{name}_error"] = f"{type(error).__name__}: {error}"[:300]
        rows.append(row)
    return rows


def main() -> int:
    """Measure what the command line names and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+")
    parser.add_argument("--batches", default="1,64")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--no-peaks", action="store_true")
    arguments = parser.parse_args()
    batches = [int(n) for n in arguments.batches.split(",")]
    device = arguments.device
    result: dict[str, Any] = {
        "torch": torch.__version__,
        "python": sys.version.split()[0],
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "peaks": peaks(device) if device == "cuda" and not arguments.no_peaks else {},
    }
    result["models"] = {
        path: measure(path, batches, device, not arguments.no_compile) for path in arguments.models
    }
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
