"""What a model card says of INT8, from the report of `export.compression.int8`."""

from __future__ import annotations

from typing import Any

from gender_edge.groups import SMALLEST_COMPARED

from ..compression.int8 import worst


def quantization(report: dict[str, Any]) -> str:
    """What INT8 cost on validation, by method and by layer, from an int8.json."""
    layers = sorted(report["layers"].items(), key=lambda entry: entry[1])
    lines = [
        "## Quantisation",
        "",
        f"Ranges by {report['ranges']}: of the least worst loss on validation (aligned faces,",
        f"balanced accuracy in %), {_points(report['lost'])} FP32.",
        *_aware(report),
        *_lost_in_groups(report),
        "",
        "| | " + " | ".join(key for key in report["validation"]["fp32"]) + " |",
        "|---|" + "---|" * len(report["validation"]["fp32"]),
    ]
    for method, scores in report["validation"].items():
        lines.append(f"| {method} | " + " | ".join(f"{v:.2f}" for v in scores.values()) + " |")
    if symmetric := report.get("symmetric"):
        scores = " | ".join(f"{v:.2f}" for v in symmetric["validation"].values())
        lines += [f"| {report['ranges']}, in TensorRT's form | {scores} |"]
    noisy = ", ".join(f"`{name}` {decibels:.0f} dB" for name, decibels in layers[:3])
    if symmetric:
        lines += [
            "",
            "TensorRT counts activations from -127 to 127 (`gender_edge.symmetric`): in that form,",
            f"as ONNX Runtime computes it, {_points(symmetric['lost'])} FP32, and",
            f"{_points(symmetric['lost_most'])} it in the worst set or group.",
        ]
    lines += ["", f"Least signal to noise of the log-odds with one layer alone in INT8: {noisy}."]
    return "\n".join(lines) + "\n"


def _points(lost: float) -> str:
    return f"{abs(lost):.2f} points {'below' if lost > 0 else 'above'}"


def _aware(report: dict[str, Any]) -> list[str]:
    """What teaching with INT8's rounding bought, where it was needed."""
    if "aware" not in report:
        return []
    before, after = report["aware"]["lost"], worst(report)
    epochs = f"{report['aware']['epochs']} more epoch(s) with INT8's rounding"
    return [
        f"{epochs} brought the worst loss (set or group) from {before:.2f} to {after:.2f} points."
    ]


def _lost_in_groups(report: dict[str, Any]) -> list[str]:
    """Groups that lose more than chance explains."""
    rows = report["groups"]
    lost = [
        f"{row['group']} {row['lost']:.2f} points ({row['faces']} faces: {row['turned_wrong']} "
        f"turned wrong, {row['turned_right']} right)"
        for row in rows
        if row["beyond_chance"]
    ]
    return [
        f"Of {len(rows)} groups of at least {SMALLEST_COMPARED} faces (age, ethnicity, label),",
        f"{'; '.join(lost) or 'none'} lost more than chance explains (McNemar's test, 5 %).",
    ]
