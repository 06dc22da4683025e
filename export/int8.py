"""Which INT8 file of a network is kept: every range estimate measured on validation data.

Beside it a report says what INT8 cost there, and how much of the logits each layer alone blurs.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

import numpy as np
import onnx

from gender_edge.labelled import LABELS

from .data import Pack
from .quantize import quantize
from .validate import Answer, by_file, validate

FRAMING = "landmarks"
PROBES = 96  # crops that a layer's noise is measured on


def choose(
    source: Path,
    crops: np.ndarray,
    validation: Mapping[str, Pack],
    methods: Sequence[str],
    target: Path,
    exact: Optional[Mapping[str, float]] = None,
) -> dict[str, Any]:
    """Write the INT8 file that is most accurate on validation data, and its report (.json).

    Args:
        crops: uint8 (N, S, S, 3), what activation ranges are estimated on.
        validation: packs by name, seen aligned by landmarks.
        methods: of estimating ranges; the first of equals is kept.
        exact: accuracy that INT8 is compared with; by default that of `source`.

    Returns:
        The report: `ranges`, the method; `validation`, accuracy by method and set; `lost`, points
        on the mean, and `lost_most`, on the set that loses most; `layers` (see `sensitivity`).
    """
    if exact is None:
        exact = validate(by_file(source), validation, crops.shape[1], [FRAMING])
    scores = {"fp32": dict(exact)}
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        for method in methods:
            tried = Path(folder) / f"{method}.onnx"
            quantize(source, crops, tried, method)
            scores[method] = validate(by_file(tried), validation, crops.shape[1], [FRAMING])
        best = max(methods, key=lambda method: scores[method]["mean"])
        lost = {name: round(scores["fp32"][name] - own, 3) for name, own in scores[best].items()}
        report = {
            "ranges": best,
            "validation": scores,
            "lost": lost["mean"],
            "lost_most": max(lost.values()),
            "layers": sensitivity(source, crops[:: max(1, len(crops) // PROBES)]),
        }
        target.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")
        (Path(folder) / f"{best}.onnx").replace(target)
    return report


def sensitivity(source: Path, crops: np.ndarray) -> dict[str, float]:
    """Signal-to-noise ratio of the log-odds in dB with one layer alone in INT8, by layer.

    The lower, the more that layer loses. Ranges by min-max on the same crops.
    """
    exact = _log_odds(by_file(source), crops)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        one = Path(folder) / "one.onnx"
        for layer in _layers(source):
            quantize(source, crops, one, only=[layer])
            noise = _log_odds(by_file(one), crops) - exact
            ratio = exact.var() / max(np.square(noise).mean(), 1e-12)
            found[layer] = round(float(10 * np.log10(ratio)), 1)
    return found


def _layers(source: Path) -> list[str]:
    """Names of the nodes that hold weights to quantise."""
    nodes: Sequence[Any] = onnx.load(source).graph.node
    return [node.name for node in nodes if node.op_type in ("Conv", "Gemm")]


def _log_odds(answer: Answer, crops: np.ndarray) -> np.ndarray:
    logits = np.asarray(answer(crops), np.float64)
    return logits[:, LABELS.index("female")] - logits[:, LABELS.index("male")]
