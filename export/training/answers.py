"""What teachers say of every training picture, computed once and kept beside the pixels.

A student sees a face turned, darkened and half hidden, and hears what its teachers said of the
whole face. That costs one pass of the teachers over the pictures, not one an epoch.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from ..architectures import Network
from ..data.packs import Pack
from ..files import digest, replacing
from ..precision import DEVICE, autocast
from ..runs import WEIGHTS, finished, trained_size

logger = logging.getLogger(__name__)

BATCH = 64


@dataclass(frozen=True)
class Answers:
    """Of all pictures of all packs, in their order; the mean over a face and its mirror image.

    Attributes:
        logits: float32 (N, 2).
        embeddings: float32 (N, D), of length 1.
    """

    logits: Tensor
    embeddings: Tensor


def answers_of(runs: Sequence[Path], packs: Sequence[Pack]) -> Answers:
    """The answers of finished runs: the mean of their logits, their embeddings side by side.

    Raises:
        DataError: a run is not finished.
    """
    each = [[_kept(run, pack) for pack in packs] for run in runs]
    logits = [torch.cat([own.logits for own in teacher]) for teacher in each]
    embeddings = [torch.cat([own.embeddings for own in teacher]) for teacher in each]
    return Answers(
        torch.stack(logits).mean(0), functional.normalize(torch.cat(embeddings, 1), dim=1)
    )


def _kept(run: Path, pack: Pack) -> Answers:
    teacher = finished(run)
    cache = pack.derived(f"answers-{run.name}-{digest(run / WEIGHTS)[:16]}.npz")
    if not cache.exists():
        found = ask(teacher, pack, trained_size(run))
        with replacing(cache) as partial:
            np.savez(partial, logits=found.logits, embeddings=found.embeddings)
    with np.load(cache) as kept:
        return Answers(*(torch.from_numpy(kept[k]) for k in ("logits", "embeddings")))


@torch.inference_mode()
def ask(teacher: Network, pack: Pack, size: int) -> Answers:
    """A teacher's answers on aligned crops of its own input size."""
    teacher.to(DEVICE, memory_format=torch.channels_last)  # type: ignore[call-overload]
    logits, embeddings = [], []
    for start in tqdm(range(0, len(pack), BATCH), f"ask about {pack.folder.name}", disable=None):
        numbers = range(start, min(start + BATCH, len(pack)))
        pixels = torch.from_numpy(pack.crops(numbers, size)).to(DEVICE)
        with autocast(DEVICE):
            both = [teacher.answer(p) for p in (pixels, pixels.flip(2))]
        logits.append(torch.stack([own.float() for own, _ in both]).mean(0).cpu())
        embedding = torch.stack([own.float() for _, own in both]).mean(0).cpu()
        embeddings.append(functional.normalize(embedding, dim=1))
    return Answers(torch.cat(logits), torch.cat(embeddings))
