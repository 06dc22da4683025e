"""The model card, generated from a model's evaluation: no figure is typed by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gender_edge import measures
from gender_edge.groups import SMALLEST_COMPARED, adult_gap, worst
from gender_edge.zoo import EVALUATION, MODEL

from .int8_card import quantization

COVERAGES = (0.5, 0.8, 0.9, 0.95, 0.98, 1.0)  # whose risk is shown

INTENDED = """\
## Intended use

Aggregate statistics of apparent gender (counts, shares) from face crops on small devices, and
research on such classifiers. The answer is what annotators of the training sets would say of a
picture, as one of two labels. It is not a person's gender identity, and must not stand in for
asking.

## Not for

Decisions about a person (access, price, hiring, policing, medicine); surveillance or search for
individuals; inferring gender identity, sex or orientation; any use where an error harms the
person shown. People whom two labels do not describe are always misdescribed by it.
"""


def text(folder: Path) -> str:
    """The card of the model in a folder, from its evaluation.json and the size of its file."""
    own = json.loads((folder / EVALUATION).read_text())
    size = (folder / MODEL).stat().st_size
    parts = [_head(own, size), INTENDED, _sets(own)]
    parts += [_given_up(own, size, other) for other in own.get("against", [])]
    parts += [_groups(own), _calibration(own)]
    if "robustness" in own:
        parts.append(_robustness(own))
    if "quantization" in own:
        parts.append(quantization(own["quantization"]))
    return "\n".join(parts)


def _head(own: dict[str, Any], size: int) -> str:
    spec = own["spec"]
    origin = f"| also from | {spec['origin']} |\n" if spec.get("origin") else ""
    seen = "luminance (computed in the graph)" if spec["grayscale"] else spec["color_order"].upper()
    return f"""\
# {spec["name"]}

Apparent gender of a face, binary labels ({", ".join(spec["labels"])}).

| | |
|---|---|
| file | model.onnx, {size / 1e6:.2f} MB, {spec["precision"].upper()} |
| input | uint8 (N, {spec["input_size"]}, {spec["input_size"]}, 3), BGR; the network sees {seen} |
| cost of a face | {spec["macs"] / 1e6:.1f} M multiply-accumulates |
| parameters | {spec["parameters"] / 1e6:.2f} M |
| trained on | {", ".join(spec["trained_on"])} |
{origin}| terms of the weights | {spec["license"]} |
| made at revision | {spec["revision"]} |
"""


def _sets(own: dict[str, Any]) -> str:
    twin = own.get("twin")
    lines = [
        "## Accuracy",
        "",
        "Balanced accuracy in % with 95 % interval, measured through `Classifier`",
        f"({own['backend']}) on each set's held-out split: faces aligned by landmarks,",
        f"cut by box alone, and pictures taken whole.{_lfw(own)}",
        "",
        "| set | faces | aligned | box | whole | women right | men right |"
        + (f" {twin['name']} |" if twin else ""),
        "|---|---|---|---|---|---|---|" + ("---|" if twin else ""),
    ]
    for name, figures in own["sets"].items():
        cells = [
            percent(figures["balanced_accuracy"]),
            percent(figures["balanced_accuracy_box"]),
            percent(figures["balanced_accuracy_whole"]),
            percent(figures["female_right"]),
            percent(figures["male_right"]),
        ]
        if twin:
            cells.append(percent(twin["sets"][name]))
        lines.append(f"| {name} | {figures['faces']} | " + " | ".join(cells) + " |")
    copies = [
        f"{name}: {figures['copies']['count']} of {figures['faces']} (balanced accuracy without "
        f"them {percent(figures['copies']['balanced_accuracy_without'])})"
        for name, figures in own["sets"].items()
    ]
    lines += ["", f"Pictures with a near-duplicate in training or validation: {'; '.join(copies)}."]
    lines += _label_noise(own)
    return "\n".join(lines) + "\n"


def _lfw(own: dict[str, Any]) -> str:
    """A sentence on LFW, where it is what this project takes it for."""
    learned = [*own["spec"]["trained_on"], *own["validation"]["sets"]]
    if "lfw" not in own["sets"] or any(name.startswith("lfw") for name in learned):
        return ""
    shared = any(name.startswith("celeba") for name in learned)
    return " LFW was never trained or tuned on" + (
        ", but shares\ncelebrities with CelebA." if shared else "."
    )


def _label_noise(own: dict[str, Any]) -> list[str]:
    """How much of the error is the labels', where `python -m export clean` was asked."""
    shares = []
    for name, figures in own["sets"].items():
        if "label_noise" in figures:
            noise, error = figures["label_noise"], 1 - figures["accuracy"]["value"]
            shares.append(f"{name} {100 * noise:.1f} of {100 * error:.1f}")
    if not shares:
        return []
    found = (
        "Labels that are wrong by confident learning (`python -m export clean`), and all answers"
    )
    return ["", f"{found} that differ from the label, in %: {'; '.join(shares)}."]


def _given_up(own: dict[str, Any], size: int, whole: dict[str, Any]) -> str:
    """A variant beside one that it was made from."""
    spec, time = own["spec"], whole["time"]
    costs = [
        ("multiply-accumulates, M", spec["macs"] / 1e6, whole["macs"] / 1e6, 1),
        ("parameters, M", spec["parameters"] / 1e6, whole["parameters"] / 1e6, 2),
        ("file, MB", size / 1e6, whole["bytes"] / 1e6, 2),
        ("time a face, ms", *whole["ms"], 2),
    ]
    lines = [
        f"## Against {whole['name']}, {whole['why']}",
        "",
        f"| | {spec['name']} | {whole['name']} | |",
        "|---|---|---|---|",
    ]
    for what, less, more, digits in costs:
        lines.append(f"| {what} | {less:.{digits}f} | {more:.{digits}f} | {less / more:.0%} |")
    mean = measures.mean([figures["balanced_accuracy"] for figures in own["sets"].values()])
    pairs = [("mean of the sets", mean, whole["mean"])]
    for name, figures in own["sets"].items():
        before = whole["sets"][name]
        pairs.append((name, figures["balanced_accuracy"], before["balanced_accuracy"]))
        if least := worst(before["groups"]):
            now = next(row for row in figures["groups"] if row["group"] == least["group"])
            label = f"{name}, {least['group']} (its worst group)"
            pairs.append((label, now["balanced_accuracy"], least["balanced_accuracy"]))
    for label, now, then in pairs:
        change = f"{100 * (now['value'] - then['value']):+.1f}"
        lines.append(f"| {label}, % | {percent(now)} | {percent(then)} | {change} |")
    lines += [
        "",
        f"Time a face, one at a time, on ONNX Runtime: {100 * time['value']:.0f} % of that of",
        f"{whole['name']} ({100 * time['low']:.0f} to {100 * time['high']:.0f} in the middle 80 %",
        f"of rounds, side by side on all cores of {whole['processor'] or 'a CPU'}).",
    ]
    return "\n".join(lines) + "\n"


def _groups(own: dict[str, Any]) -> str:
    lines = [
        "## Error by group",
        "",
        "Both directions of error, in % of the group's women and men; ages and ethnicities as the",
        "data sets word them, estimates themselves. Groups that a set does not name are not here,",
        "and few faces make wide intervals.",
        "",
        "| set | group | faces | balanced accuracy | women taken for men | men taken for women |",
        "|---|---|---|---|---|---|",
    ]
    for name, figures in own["sets"].items():
        for row in figures["groups"]:
            cells = [
                percent(row["balanced_accuracy"]),
                _error(row["female_right"]),
                _error(row["male_right"]),
            ]
            lines.append(
                f"| {name} | {row['group']} | {row['faces']} | " + " | ".join(cells) + " |"
            )
    for name, figures in own["sets"].items():
        lines += _extremes(name, figures)
    return "\n".join(lines) + "\n"


def _extremes(name: str, figures: dict[str, Any]) -> list[str]:
    """The group that a set's pictures are judged worst of, and the gap between adults."""
    least = worst(figures["groups"])
    if least is None:
        return []
    text = f"{name}, worst group: {least['group']}, {percent(least['balanced_accuracy'])} %."
    gap = adult_gap(figures["groups"])
    if gap:
        points = percent({**gap, "value": gap["gap"]})
        text += (
            f" Largest gap between adults (ethnicity and label, at least {SMALLEST_COMPARED} "
            f"faces): {points} points, from {gap['best']} to {gap['worst']}."
        )
    return ["", text]


def _calibration(own: dict[str, Any]) -> str:
    spec = own["spec"]
    limits = ", ".join(
        f"{label} below {value:.3f}" for label, value in spec["abstain_below"].items()
    )
    sets, wrong = ", ".join(own["validation"]["sets"]), own["validation"]["abstain_error"]
    lines = [
        "## Certainty",
        "",
        f"Logits are divided by {spec['temperature']:.3f}, fitted on validation data. The label",
        f"is withheld where its probability is low: {limits}.",
        f"On validation ({sets}, each set counting the same) at most {100 * wrong:g} % of the",
        "labels given are wrong, of either label.",
        "",
        "| set | calibration error (ECE, points) | before | label given, % | right where given, % "
        "| right among the surest 95 %, % |",
        "|---|---|---|---|---|---|",
    ]
    for name, figures in own["sets"].items():
        surest = next(p for p in figures["risk_coverage"] if p["coverage"] == 0.95)
        cells = [
            percent(figures["ece"]),
            percent(figures["ece_uncalibrated"]),
            f"{100 * figures['coverage']:.1f}",
            percent(figures["accuracy_decided"]),
            f"{100 - 100 * surest['risk']:.1f} (of all: {100 * figures['accuracy']['value']:.1f})",
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += _risk(own)
    return "\n".join(lines) + "\n"


def _risk(own: dict[str, Any]) -> list[str]:
    """Error by how many of the surest faces are answered."""
    lines = [
        "",
        "| wrong among the surest, % | " + " | ".join(f"{100 * c:.0f} %" for c in COVERAGES) + " |",
        "|---|" + "---|" * len(COVERAGES),
    ]
    for name, figures in own["sets"].items():
        risks = {p["coverage"]: {**p, "value": p["risk"]} for p in figures["risk_coverage"]}
        lines.append(f"| {name} | " + " | ".join(percent(risks[c]) for c in COVERAGES) + " |")
    return lines


def _robustness(own: dict[str, Any]) -> str:
    lines = [
        "## Bad pictures",
        "",
        "Balanced accuracy in %, mean over the sets (at most 1,000 faces of each): aligned crops,",
        "altered after they were cut, and crops by boxes",
        "(`export/evaluation/robustness.py` says how).",
        "",
        "| pictures | balanced accuracy | women right | men right |",
        "|---|---|---|---|",
    ]
    for name, found in own["robustness"].items():
        cells = [percent(found[key]) for key in ("balanced_accuracy", "women", "men")]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def percent(figure: Mapping[str, Any], digits: int = 1) -> str:
    """A share and its interval, in %; "-" for none."""
    if figure["value"] is None:
        return "-"
    value, low, high = (f"{100 * figure[key]:.{digits}f}" for key in ("value", "low", "high"))
    return f"{value} ({low} to {high})"


def _error(figure: dict[str, Any]) -> str:
    """The complement of a share that was right."""
    if figure["value"] is None:
        return "-"
    low, high = 100 * (1 - figure["high"]), 100 * (1 - figure["low"])
    return f"{100 * (1 - figure['value']):.1f} ({low:.1f} to {high:.1f})"
