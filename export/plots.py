"""Pictures for a run folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from gender_edge.labelled import LABELS


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
