"""Accuracy on packed pictures: of a network in training, of a file before it ships."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Callable

import numpy as np
import torch
from torch import nn

from gender_edge.backends.onnx import open_session
from gender_edge.evaluation import FRAMINGS
from gender_edge.groups import CHILD, adult_gap, groups, worst
from gender_edge.samples import LABELS, Sample

from .data.packs import Pack
from .precision import autocast

BATCH = 128


# Pixels uint8 (N, S, S, 3) to logits float32 (N, 2).
Answer = Callable[[np.ndarray], np.ndarray]


def by_network(network: nn.Module) -> Answer:
    """Ask a torch network, where it lies."""
    device = next(network.parameters()).device
    network.eval()

    @torch.inference_mode()
    def answer(pixels: np.ndarray) -> np.ndarray:
        with autocast(device):
            return network(torch.from_numpy(pixels).to(device)).float().cpu().numpy()

    return answer


def by_file(model: Path | bytes) -> Answer:
    """Ask an ONNX file, or what is in one, on ONNX Runtime's CPU provider."""
    content = model if isinstance(model, bytes) else model.read_bytes()
    session = open_session(content, "the network" if isinstance(model, bytes) else str(model))
    name = session.get_inputs()[0].name
    return lambda pixels: session.run(None, {name: pixels})[0]


def predict(answer: Answer, pack: Pack, size: int, framing: str) -> np.ndarray:
    """Logits (N, 2) of every picture of a pack under one framing."""
    starts = range(0, len(pack), BATCH)
    parts = (range(start, min(start + BATCH, len(pack))) for start in starts)
    return np.concatenate([answer(pack.crops(numbers, size, framing)) for numbers in parts])


def judged(
    answer: Answer, packs: Mapping[str, Pack], size: int, framings: Sequence[str]
) -> dict[str, np.ndarray]:
    """Whether each picture is judged right, bool (N,), by "SET/FRAMING"."""
    return {
        f"{name}/{framing}": predict(answer, pack, size, framing).argmax(1) == targets(pack.samples)
        for name, pack in packs.items()
        for framing in framings
    }


def samples_of(key: str, packs: Mapping[str, Pack]) -> list[Sample]:
    """What a "SET/FRAMING" of `judged` is about."""
    return packs[key.rpartition("/")[0]].samples


def scored(right: Mapping[str, np.ndarray], packs: Mapping[str, Pack]) -> dict[str, float]:
    """Balanced accuracy in per cent of what `judged` returns, and the mean over all of it."""
    scores = {}
    for key, own in right.items():
        truth = targets(samples_of(key, packs))
        per_class = [own[truth == c].mean() for c in range(len(LABELS))]
        scores[key] = round(100 * float(np.mean(per_class)), 2)
    return {**scores, "mean": round(float(np.mean(list(scores.values()))), 3)}


def validate(
    answer: Answer, packs: Mapping[str, Pack], size: int, framings: Sequence[str] = FRAMINGS
) -> dict[str, float]:
    """Balanced accuracy in per cent, by set and framing, and the mean over all of them."""
    return scored(judged(answer, packs, size, framings), packs)


def by_group(right: Mapping[str, np.ndarray], packs: Mapping[str, Pack]) -> dict[str, float]:
    """Of what `judged` returns under the first framing, in per cent and by set: balanced accuracy
    of the worst age group or ethnicity and of children, and what lies between groups of adults
    (see `gender_edge.groups.adult_gap`); left out where a set does not say or has too few.
    """
    found: dict[str, float] = {}
    for name, pack in packs.items():
        own = next(mask for key, mask in right.items() if key.startswith(f"{name}/"))
        rows = groups(pack.samples, own, targets(pack.samples) == LABELS.index("female"))
        children = next((row for row in rows if row["group"] == f"under {CHILD}"), None)
        for what, row in (("worst group", worst(rows)), (f"under {CHILD}", children)):
            if row and row["balanced_accuracy"]["value"] is not None:
                found[f"{name}: {what}"] = 100 * row["balanced_accuracy"]["value"]
        if gap := adult_gap(rows):
            found[f"{name}: adult gap"] = 100 * gap["gap"]
    return {key: round(value, 2) for key, value in found.items()}


def targets(samples: Sequence[Sample]) -> np.ndarray:
    """Class numbers, int64 (N,)."""
    return np.array([LABELS.index(s.label) for s in samples])
