"""Which INT8 file of a network is kept: every range estimate measured on validation data.

A report says what INT8 cost there, overall, by set and by group, and how much of the logits each
layer alone blurs. The form that TensorRT takes, whose activations have half the steps, is judged
with it: ranges that only one of the two can bear are not taken.

What a group loses counts only beyond chance. One face is two points of a group of fifty, so faces
that turned wrong have to outnumber those that turned right by more than a fair coin would bring
about in one case of twenty (McNemar's exact test, one-sided). There are dozens of groups, so now
and then one is blamed that chance made worse; that costs some teaching and no accuracy.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

import numpy as np
import onnx
from scipy.stats import binomtest

from gender_edge.groups import SMALLEST_COMPARED, group_masks
from gender_edge.samples import LABELS, Sample
from gender_edge.symmetric import symmetric

from ..data.packs import Pack
from ..validate import Answer, by_file, judged, samples_of, scored, targets
from .quantize import quantize

FRAMING = "landmarks"
CHANCE = 0.05  # below, a group's loss is none of chance's
PROBES = 96  # crops that a layer's noise is measured on


def choose(
    source: Path,
    crops: np.ndarray,
    validation: Mapping[str, Pack],
    methods: Sequence[str],
    target: Path,
    exact: Optional[Path] = None,
) -> dict[str, Any]:
    """Write the INT8 file that loses least where it loses most on validation data, in its own form
    or in TensorRT's.

    Args:
        crops: uint8 (N, S, S, 3), what activation ranges are estimated on.
        validation: packs by name, seen aligned by landmarks.
        methods: of estimating ranges; of those that lose as much, the best on the mean is kept.
        exact: the file that INT8 is compared with; by default `source`.

    Returns:
        The report: `ranges`, the method; `validation`, accuracy by method and set; what `losses`
        returns for the method; `symmetric`, the same of TensorRT's form, but for the groups;
        `layers` (see `sensitivity`).
    """

    def ask(model: Path | bytes) -> dict[str, np.ndarray]:
        return judged(by_file(model), validation, crops.shape[1], [FRAMING])

    right = {"fp32": ask(exact or source)}
    signed = {}
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        for method in methods:
            tried = Path(folder) / f"{method}.onnx"
            quantize(source, crops, tried, method)
            right[method] = ask(tried)
            signed[method] = ask(symmetric(tried.read_bytes()))
        lost = {m: losses(right["fp32"], right[m], validation) for m in methods}
        lost_signed = {m: losses(right["fp32"], signed[m], validation) for m in methods}
        most = {m: max(lost[m]["lost_most"], lost_signed[m]["lost_most"]) for m in methods}
        best = min(methods, key=lambda m: (most[m], lost[m]["lost"]))
        (Path(folder) / f"{best}.onnx").replace(target)
    return {
        "ranges": best,
        "validation": {name: scored(own, validation) for name, own in right.items()},
        **lost[best],
        "symmetric": {
            "validation": scored(signed[best], validation),
            **{key: lost_signed[best][key] for key in ("lost", "lost_most")},
        },
        "layers": sensitivity(source, crops[:: max(1, len(crops) // PROBES)]),
    }


def worst(report: Mapping[str, Any]) -> float:
    """What INT8 lost where it lost most, in points, in whichever of the two forms it was more."""
    forms = (report, report.get("symmetric", report))  # reports of earlier know but one
    return float(max(form["lost_most"] for form in forms))


def losses(
    before: Mapping[str, np.ndarray], after: Mapping[str, np.ndarray], packs: Mapping[str, Pack]
) -> dict[str, Any]:
    """What INT8 cost, in points.

    Args:
        before: what `judged` says of FP32.
        after: and of INT8.

    Returns:
        `lost`, of balanced accuracy on the mean; `groups`, of accuracy by group; `lost_most`, on
        the mean, the set or the group beyond chance that loses most.
    """
    scores = scored(before, packs), scored(after, packs)
    lost = {name: round(value - scores[1][name], 3) for name, value in scores[0].items()}
    rows = [
        row
        for key in before
        for row in _flips(before[key], after[key], samples_of(key, packs), key.split("/")[0])
    ]
    beyond = [row["lost"] for row in rows if row["beyond_chance"]]
    return {"lost": lost["mean"], "lost_most": max(*lost.values(), *beyond), "groups": rows}


def _flips(
    before: np.ndarray, after: np.ndarray, samples: Sequence[Sample], name: str
) -> Iterator[dict[str, Any]]:
    """By group that is large enough: how many faces INT8 turned wrong and right."""
    truth = targets(samples)
    labels = [(f"labelled {label}", truth == number) for number, label in enumerate(LABELS)]
    for group, members in (*group_masks(samples), *labels):
        faces = int(members.sum())
        if faces < SMALLEST_COMPARED:
            continue
        wrong = int((before & ~after & members).sum())
        right = int((after & ~before & members).sum())
        yield {
            "group": f"{name}, {group}",
            "faces": faces,
            "turned_wrong": wrong,
            "turned_right": right,
            "lost": round(100 * (wrong - right) / faces, 3),
            "beyond_chance": wrong > right
            and bool(binomtest(wrong, wrong + right, alternative="greater").pvalue < CHANCE),
        }


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
