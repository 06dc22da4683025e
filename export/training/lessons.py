"""What a network is taught: the labels, its teachers' answers, and what lies behind those."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Optional

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..data.packs import Pack
from ..recipe import Recipe
from .answers import answers_of
from .live_answers import LiveTeachers


class Lessons(nn.Module):
    """The loss of a recipe, with the linear map that its hints need while training.

    Log-softmax and NLL on labels, mixed with distillation (Hinton et al. 2015) and hints from the
    teachers' embeddings of the whole face (Romero et al. 2015, cosine distance), as far as the
    recipe wants them.

    Args:
        width: length of the student's embedding.
        packs: what it learns from, in the order that batches number their pictures.
        runs: the folder of runs, where the teachers' lie.
    """

    logits: Tensor
    embeddings: Tensor

    def __init__(self, recipe: Recipe, width: int, packs: Sequence[Pack], runs: Path) -> None:
        super().__init__()
        self.recipe = recipe
        teachers = [runs / name for name in recipe.teachers]
        self.live: Optional[LiveTeachers] = None
        if teachers and recipe.teachers_see == "views":
            self.live = LiveTeachers(teachers, keep=not recipe.mixing)
        if teachers:
            said = answers_of(teachers, packs)
            self.register_buffer("logits", said.logits, persistent=False)
            self.register_buffer("embeddings", said.embeddings, persistent=False)
            self.map = nn.Linear(width, said.embeddings.shape[1])

    def forward(
        self,
        logits: Tensor,
        embedding: Tensor,
        labels: Tensor,
        numbers: Tensor,
        pixels: Tensor,
        shares: Optional[Tensor] = None,
    ) -> Tensor:
        """The mean loss of a batch.

        Args:
            logits: float (N, 2), the student's.
            embedding: float (N, width), the student's.
            labels: int64 (N,), classes.
            numbers: int64 (N,), the pictures' places in all packs.
            pixels: (N, S, S, 3), what the student saw of them, mixed or not.
            shares: float (N, N) of mixed pictures, as `export.data.mixing` gives them.
        """
        recipe = self.recipe
        classes = functional.one_hot(labels, logits.shape[1]).float()
        classes = _mixed(classes, shares)
        loss = functional.cross_entropy(logits, classes, label_smoothing=recipe.label_smoothing)
        if not recipe.teachers:
            return loss
        temperature = recipe.distill_temperature
        if self.live is None:
            said = _mixed(torch.softmax(self.logits[numbers] / temperature, 1), shares)
        else:
            said = torch.softmax(self.live(pixels) / temperature, 1)
        soft = functional.log_softmax(logits / temperature, 1)
        soft = temperature**2 * functional.kl_div(soft, said, reduction="batchmean")
        loss = (1 - recipe.distill_weight) * loss + recipe.distill_weight * soft
        seen = _mixed(self.embeddings[numbers], shares)
        near = functional.cosine_similarity(self.map(embedding), seen)
        return loss + recipe.hint_weight * (1 - near.mean())


def _mixed(said: Tensor, shares: Optional[Tensor]) -> Tensor:
    return said if shares is None else shares @ said
