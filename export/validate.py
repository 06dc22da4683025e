"""Accuracy of a torch network on packed pictures, while it is being trained."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from gender_edge.evaluation import FRAMINGS
from gender_edge.labelled import LABELS, Sample
from gender_edge.spec import CropRule

from .augment import evaluation_crop
from .data import Pack

BATCH = 128


@torch.inference_mode()
def predict(network: nn.Module, pack: Pack, size: int, framing: str) -> Tensor:
    """Logits (N, 2) of every picture of a pack under one framing, on the CPU."""
    network.eval()
    device = next(network.parameters()).device
    rule, parts = CropRule(), []
    for start in range(0, len(pack), BATCH):
        numbers = range(start, min(start + BATCH, len(pack)))
        crops = [
            evaluation_crop(pack.image(i), pack.samples[i], rule, size, framing) for i in numbers
        ]
        with torch.autocast(device.type, torch.bfloat16):
            parts.append(network(torch.from_numpy(np.stack(crops)).to(device)).float().cpu())
    return torch.cat(parts)


def validate(network: nn.Module, packs: Mapping[str, Pack], size: int) -> dict[str, float]:
    """Balanced accuracy in per cent, by set and framing, and the mean over all of them."""
    scores = {}
    for name, pack in packs.items():
        truth = targets(pack.samples)
        for framing in FRAMINGS:
            right = predict(network, pack, size, framing).argmax(1) == truth
            per_class = [right[truth == c].float().mean().item() for c in range(len(LABELS))]
            scores[f"{name}/{framing}"] = round(100 * float(np.mean(per_class)), 2)
    return {**scores, "mean": round(float(np.mean(list(scores.values()))), 3)}


def targets(samples: list[Sample]) -> Tensor:
    """Class numbers, int64 (N,)."""
    return torch.tensor([LABELS.index(s.label) for s in samples])
