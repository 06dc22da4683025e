"""What was found on a GPU beside what is wanted of it: a row a figure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gender_edge import zoo

ACCURACY = 0.001  # an engine's balanced accuracy may differ from its ONNX file's by so much
RESIDENT_SHARE = 0.95  # `Classifier` on crops on the GPU, of the engine enqueued in a loop
HOST_SHARE = 0.85  # from host memory, of the slower of computing and uploading
TAIL = 2.0  # p99 of one face, in p50
EAGER, COMPILED = 3.0, 1.5  # the engine as a graph, in PyTorch FP16's rates


def of(found: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Every figure that could be had, with `value` and, where one is wanted, `wanted` and `met`."""
    rows = [
        *_accuracy(found.get("parity", {})),
        *_shares(found.get("overhead", {})),
        *_tails(found.get("benchmark", {}), folder),
        *_rates(found.get("overhead", {}), found.get("pytorch", {})),
    ]
    return dict(rows)


def peaks(pytorch: dict[str, Any]) -> dict[str, float]:
    """The best that PyTorch reached on the GPU, in the units of `benchmarks.derived`: 1e9
    multiply-accumulates a second by precision, 1e9 bytes a second over the bus.
    """
    units = {
        "fp16_ops": ("fp16_gmacs", 2e9),
        "int8_ops": ("int8_gmacs", 2e9),
        "upload_bytes": ("upload_gb_s", 1e9),
    }
    found: dict[str, float] = {}
    for _, row in good(pytorch):
        for key, value in row["peaks"].items():
            if key in units:
                name, unit = units[key]
                found[name] = max(found.get(name, 0.0), value / unit)
    return found


Row = tuple[str, dict[str, Any]]


def _row(name: str, value: float, least: float | None = None, most: float | None = None) -> Row:
    row: dict[str, Any] = {"value": value}
    if least is not None:
        row |= {"wanted": f"at least {least}", "met": value >= least}
    if most is not None:
        row |= {"wanted": f"at most {most}", "met": value <= most}
    return name, row


def good(rows: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of a step that were measured."""
    found = ((name, row) for name, row in rows.items() if isinstance(row, dict))
    return ((name, row) for name, row in found if "error" not in row and not row.get("status"))


def _accuracy(parity: dict[str, Any]) -> Iterator[Row]:
    for name, row in good(parity):
        if "accuracy_difference" in row:
            yield _row(f"{name}: accuracy", abs(row["accuracy_difference"]), most=ACCURACY)
        else:
            yield f"{name}: accuracy", {"value": "not measured: no labelled faces, see --data"}


def _shares(overhead: dict[str, Any]) -> Iterator[Row]:
    for name, row in good(overhead):
        yield _row(f"{name}: resident", row["resident_share"], least=RESIDENT_SHARE)
        yield _row(f"{name}: from host", row["host_share"], least=HOST_SHARE)


def _tails(benchmark: dict[str, Any], folder: Path) -> Iterator[Row]:
    for _, part in good(benchmark):
        if part["device"] != "tensorrt":
            continue
        for variant in json.loads((folder / part["file"]).read_text())["variants"]:
            for row in variant.get("batches", ()):
                if row["batch"] == 1:
                    name = Path(variant["name"]).name
                    yield _row(f"{name}: p99 to p50", row["p99_ms"] / row["p50_ms"], most=TAIL)


def _rates(overhead: dict[str, Any], pytorch: dict[str, Any]) -> Iterator[Row]:
    """The engine as a graph beside PyTorch in FP16 and the GPU's peak of its precision; INT8 beside
    FP16.
    """
    faces = {name: row["graph_faces_per_s"] for name, row in good(overhead)}
    networks = dict(good(pytorch))
    best = peaks(pytorch)
    for name, rate in faces.items():
        model = name.replace("_fp16", "_fp32")  # an engine in FP16 is made of that file
        if model not in networks or name.endswith("_fp32"):
            continue
        row = networks[model]
        largest = row["rows"][-1]
        for kind, least in (("eager", EAGER), ("compile", COMPILED)):
            if largest.get(kind):
                yield _row(f"{name}: to {kind}", rate / largest[kind], least=least)
        peak = f"{name[-4:]}_gmacs"
        if peak in best:
            macs = zoo.entry(model).evaluation["spec"]["macs"] * rate
            yield _row(f"{name}: of {peak}", macs / 1e9 / best[peak])
    for name in faces:
        half = name.replace("_int8", "_fp16")
        if half != name and half in faces:
            yield _row(f"{name}: to fp16", faces[name] / faces[half])
