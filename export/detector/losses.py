"""How wrong the maps are: scores, boxes, landmarks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from .targets import FACE, UNSAID

BOX, LANDMARKS = 2.0, 4.0  # weights beside the score's 1


def losses(maps: Sequence[Tensor], states: Tensor, values: Tensor) -> dict[str, Tensor]:
    """Losses of a batch: `score`, `box`, `landmarks`, each for one cell that has a face.

    The score of such a cell is to be its box's overlap with the truth (quality focal loss, Li et
    al. 2020); boxes learn by generalised overlap (GIoU, Rezatofighi et al. 2019); landmarks by
    their distance in sides of the face. All lengths are in strides, from the middle of the cell.

    Args:
        maps: the network's, float (N, 15, rows, columns) each.
        states, values: `targets` of the frames, (N, C) and (N, C, 14).
    """
    answers = torch.cat([own.flatten(2) for own in maps], 2).transpose(1, 2).float()
    faces = states == FACE
    found, wanted = answers[faces][:, 1:], values[faces]
    count = max(1, len(wanted))
    overlap, generalised = _overlaps(found[:, :4], wanted[:, :4])
    quality = torch.zeros_like(answers[..., 0])
    quality[faces] = overlap.detach()
    logits = answers[..., 0]
    focus = (quality - logits.sigmoid()).square().detach() * (states != UNSAID)
    score = functional.binary_cross_entropy_with_logits(logits, quality, focus, reduction="sum")
    sides = ((wanted[:, 2] + wanted[:, 3]) / 2).exp()
    distance = (found[:, 4:] - wanted[:, 4:]).abs().mean(1) / sides
    return {
        "score": score / count,
        "box": BOX * (1 - generalised).sum() / count,
        "landmarks": LANDMARKS * distance.sum() / count,
    }


def _overlaps(found: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Intersection over union, and the generalised one, of boxes (N, 4): centre, log of size."""
    sizes = [own[:, 2:].clamp(max=6).exp() for own in (found, wanted)]
    low = [own[:, :2] - size / 2 for own, size in zip((found, wanted), sizes)]
    high = [own[:, :2] + size / 2 for own, size in zip((found, wanted), sizes)]
    shared = (torch.minimum(*high) - torch.maximum(*low)).clamp(min=0).prod(1)
    union = sizes[0].prod(1) + sizes[1].prod(1) - shared
    around = (torch.maximum(*high) - torch.minimum(*low)).prod(1)
    overlap = shared / union
    return overlap, overlap - (around - union) / around
