"""What a network is taught: the labels, its teachers' answers, and what lies behind those."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from .answers import answers_of
from .data import Pack
from .recipe import Recipe


class Lessons(nn.Module):
    """The loss of a recipe, with the linear map that its hints need while training.

    Log-softmax and NLL on labels, mixed with distillation (Hinton et al. 2015) and hints from the
    teachers' embeddings (Romero et al. 2015, cosine distance), as far as the recipe wants them.

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
        if recipe.teachers:
            said = answers_of([runs / name for name in recipe.teachers], packs)
            self.register_buffer("logits", said.logits, persistent=False)
            self.register_buffer("embeddings", said.embeddings, persistent=False)
            self.map = nn.Linear(width, said.embeddings.shape[1])

    def forward(self, logits: Tensor, embedding: Tensor, labels: Tensor, numbers: Tensor) -> Tensor:
        """The mean loss of a batch.

        Args:
            logits: float (N, 2), the student's.
            embedding: float (N, width), the student's.
            labels: int64 (N,), classes; or float (N, 2), their shares in mixed pictures.
            numbers: int64 (N,), the pictures' places in all packs.
        """
        recipe = self.recipe
        loss = functional.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)
        if not recipe.teachers:
            return loss
        soft = _divergence(logits, self.logits[numbers], recipe.distill_temperature)
        loss = (1 - recipe.distill_weight) * loss + recipe.distill_weight * soft
        near = functional.cosine_similarity(self.map(embedding), self.embeddings[numbers])
        return loss + recipe.hint_weight * (1 - near.mean())


def _divergence(logits: Tensor, said: Tensor, temperature: float) -> Tensor:
    soft = functional.log_softmax(logits / temperature, 1)
    wanted = torch.softmax(said / temperature, 1)
    return temperature**2 * functional.kl_div(soft, wanted, reduction="batchmean")
