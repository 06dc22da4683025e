"""Pictures for a run folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from gender_edge.samples import LABELS


def curves(rows: Sequence[Mapping[str, float]], path: Path) -> None:
    """Loss, and balanced accuracy of every validation set and framing, by epoch."""
    figure = Figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    epochs = [row["epoch"] for row in rows]
    left.plot(epochs, [row["loss"] for row in rows], marker=".")
    left.set(title="training loss", xlabel="epoch")
    for key in rows[0]:
        if "/" in key:
            right.plot(epochs, [row[key] for row in rows], marker=".", label=key)
    right.set(title="balanced accuracy on validation, %", xlabel="epoch")
    right.legend(fontsize=7)
    for axis in (left, right):
        axis.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


def confusion(sets: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """A confusion matrix a test set: rows the set's label, columns the answer."""
    figure = Figure(figsize=(3.2 * len(sets), 3.2), layout="constrained")
    axes = figure.subplots(1, len(sets), squeeze=False)
    for axis, (name, figures) in zip(axes[0], sets.items()):
        counts = np.array(figures["confusion"])
        shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for row, column in np.ndindex(2, 2):
            text = f"{counts[row, column]}\n{100 * shares[row, column]:.1f} %"
            color = "white" if shares[row, column] > 0.5 else "black"
            axis.text(column, row, text, ha="center", va="center", color=color)
        axis.set(title=name, xticks=(0, 1), yticks=(0, 1), xticklabels=LABELS, yticklabels=LABELS)
        axis.set(xlabel="answer", ylabel="label")
    figure.savefig(path, dpi=110)


def certainty(sets: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """How often answers of a confidence are right, and how many of the surest are wrong, by test
    set, with 95 % intervals of the latter.
    """
    figure = Figure(figsize=(11, 4.4), layout="constrained")
    reliable, risk = figure.subplots(1, 2)
    reliable.plot([0.5, 1], [0.5, 1], color="grey", linewidth=1, label="as it should be")
    for number, (name, figures) in enumerate(sets.items()):
        color, bins, points = f"C{number}", figures["reliability"], figures["risk_coverage"]
        confidence, right = [b["confidence"] for b in bins], [b["right"] for b in bins]
        reliable.plot(confidence, right, color=color, linewidth=1, label=name)
        reliable.scatter(confidence, right, [200 * b["share"] + 4 for b in bins], color=color)
        coverage = [100 * p["coverage"] for p in points]
        wrong, low, high = ([100 * p[key] for p in points] for key in ("risk", "low", "high"))
        risk.plot(coverage, wrong, marker=".", color=color, label=name)
        risk.fill_between(coverage, low, high, color=color, alpha=0.15, linewidth=0)
    reliable.set(title="calibration (size: share of faces)", xlabel="confidence", ylabel="right")
    risk.set(title="risk and coverage", xlabel="surest faces, %", ylabel="wrong, %", ylim=(0, None))
    for axis in (reliable, risk):
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    figure.savefig(path, dpi=110)
