"""A variant of nothing but somebody's labelled pictures."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from gender_edge.errors import DataError
from gender_edge.groups import worst
from gender_edge.zoo import CARD, EVALUATION, MODEL

from .data.prepare import Places, annotated
from .evaluation.card import percent
from .recipe import Recipe

RECIPE = "own"
MODELS = Path("own_models")  # in the working directory
STEPS = 16  # an epoch, at least: few pictures come in small batches


def fitted(recipe: Recipe, places: Places, workers: int = 1) -> tuple[Recipe, Places]:
    """The recipe for one set alone, in batches that fit the number of its pictures.

    Args:
        places: whose `data` is that set, a labelled folder or list; it comes back as its parent.

    Raises:
        DataError: it is not there.
    """
    source = places.data.resolve()
    if not source.exists():  # a set that was prepared once would be used as it was
        raise DataError(f"{source}: no such file or folder; check the path after --data")
    places = replace(places, data=source.parent)
    count = sum(s.split == "train" for s in annotated(source.name, places, workers))
    train, validate, test = (
        tuple(replace(part, list=source.name) for part in parts)
        for parts in (recipe.train, recipe.validate, recipe.test)
    )
    size = max(1, min(recipe.batch_size, count // STEPS))
    own = replace(recipe, train=train, validate=validate, test=test, batch_size=size)
    return own, places


def summary(folder: Path) -> str:
    """What somebody wants to know first of a shipped model, from the evaluation in its folder."""
    content, model = json.loads((folder / EVALUATION).read_text()), folder / MODEL
    macs = content["spec"]["macs"]
    lines = [f"{model}: {model.stat().st_size:,} bytes, {macs:,} multiply-accumulates a face"]
    for name, figures in content["sets"].items():
        accuracy = percent(figures["balanced_accuracy"])
        lines.append(f"{name}: balanced accuracy {accuracy} % of {figures['faces']} faces")
        if least := worst(figures["groups"]):
            lines.append(
                f"  worst group: {least['group']}, {percent(least['balanced_accuracy'])} %"
            )
        else:
            women, men = percent(figures["female_right"]), percent(figures["male_right"])
            lines.append("  no ages or ethnicities, or no group that is large enough to tell")
            lines.append(f"  right of women {women} %, of men {men} %")
    return "\n".join([*lines, f"card: {folder / CARD}"])
