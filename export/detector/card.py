"""The detector's card, generated from its evaluation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gender_edge.zoo import EVALUATION

from ..evaluation.card import percent

INTENDED = """\
## Intended use

To find faces in frames of cameras, from 24 pixels up in 640 x 480, and five landmarks to align
them by, so that they can be counted. It does not tell whose face it is. It was measured against
the detector that it learned from, not against people: what YuNet misses, it may miss too.
"""


def text(folder: Path) -> str:
    """The card of the detector in a folder, from its evaluation.json."""
    own = json.loads((folder / EVALUATION).read_text())
    return "\n".join([_head(own), INTENDED, _sets(own), _aligned(own), *_latency(own)])


def _head(own: dict[str, Any]) -> str:
    spec = own["spec"]
    return f"""\
# {spec["name"]}

Where faces are: boxes, five landmarks, scores (`gender_edge.faces.Spotter`).

| | |
|---|---|
| file | model.onnx, {own["bytes"] / 1e3:.0f} kB, {spec["precision"].upper()} |
| input | uint8 (N, H, W, 3), BGR, frames of at most 320 px |
| cost of a frame of 320 x 240 | {spec["macs"] / 1e6:.1f} M multiply-accumulates |
| parameters | {spec["parameters"] / 1e6:.3f} M |
| least score | {spec["minimum_score"]:.3f}, chosen on validation frames |
| trained on | {", ".join(spec["trained_on"])} |
| also from | {spec["origin"]} |
| terms of the weights | {spec["license"]} |
| made at revision | {spec["revision"]} |
"""


def _sets(own: dict[str, Any]) -> str:
    lines = [
        "## Against YuNet",
        "",
        "Share of YuNet's faces that are found (overlap of boxes at least 0.5, with its 95 %",
        "interval), mean distance of landmarks in units of the distance between the eyes, and",
        "false alarms a frame (YuNet's in brackets): in generated frames answers where no face",
        "was pasted, in photographs answers that the other detector does not give. Where no face",
        "was pasted, YuNet's answers are no faces to be found; with them it finds",
        f"{percent(own['sets']['scenes']['found_of_all'], 2)} % in generated frames.",
        "",
        "| set | face, px | faces | found, % | landmarks | false alarms |",
        "|---|---|---|---|---|---|",
    ]
    for name, figures in own["sets"].items():
        alarms = f"{figures['false_alarms']:.3f} ({figures['false_alarms_reference']:.3f})"
        for size, row in figures["sizes"].items():
            found, error = percent(row["found"], 2), row["landmark_error"]
            cells = [name, size, str(row["faces"]), found, "-" if error is None else f"{error:.3f}"]
            lines.append("| " + " | ".join([*cells, alarms if size == "all" else ""]) + " |")
    return "\n".join(lines) + "\n"


def _aligned(own: dict[str, Any]) -> str:
    lines = [
        "## What a classifier makes of its landmarks",
        "",
        f"Balanced accuracy of {own['classifier']} on CelebA's validation split, cut by the",
        "landmarks of each detector; pictures without a face found are used whole.",
        "",
        "| detector | balanced accuracy, % | no face found in |",
        "|---|---|---|",
    ]
    for name, row in own["aligned"].items():
        lines.append(f"| {name} | {percent(row, 2)} | {row['lost']} of {row['n']} |")
    return "\n".join(lines) + "\n"


def _latency(own: dict[str, Any]) -> list[str]:
    if "latency" not in own:
        return []
    timed = own["latency"]
    lines = [
        "## Time",
        "",
        f"Median of a frame of 640 x 480, side by side on one {timed['processor']}, "
        f"{timed['threads'] or 'all'} thread(s), everything but reading the frame included.",
        "",
        "| detector | ms | times |",
        "|---|---|---|",
        *(
            f"| {name} | {r['ms']:.2f} | {r['times']:.2f} |"
            for name, r in timed["detectors"].items()
        ),
    ]
    return ["\n".join(lines) + "\n"]
