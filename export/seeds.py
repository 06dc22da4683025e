"""What chance alone does: the same recipe trained again from other seeds, mean and range."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from gender_edge.errors import DataError

from .provenance import noted
from .recipe import Recipe, start_of
from .runs import AFTER_TRAINING, WEIGHTS, config

METRICS = "metrics.csv"
PLACE = ("epoch", "size", "loss")  # what else stands in a row of it


def seeded(recipe: Recipe, seed: int) -> Recipe:
    """The recipe from another seed, as a run NAME_sN of its own, which is neither tested nor
    shipped.

    Raises:
        DataError: it is the recipe's own seed.
    """
    if seed == recipe.seed:
        raise DataError(f"--seed {seed} is what {recipe.name} has anyway; take another one")
    name = f"{recipe.name}_s{seed}"
    return replace(recipe, name=name, seed=seed, precisions=(), default=None, protocol="")


def table(names: Sequence[str], runs: Path) -> str:
    """Mean and range over seeds of what validation gave in the last epoch, in per cent; Markdown.

    Args:
        names: of recipes, whose finished runs NAME, NAME_s1, NAME_s2 and so on are looked for.

    Raises:
        DataError: there are fewer than two of a name, or they differ in more than the seed.
    """
    figures = {name: _last(_alike(name, runs)) for name in names}
    head = [f"{name}, {len(own)} seeds" for name, own in figures.items()]
    lines = [["validation", *head], ["---"] * (1 + len(head))]
    for key in dict.fromkeys(key for own in figures.values() for key in own[0]):
        lines.append([key, *(_cell(own, key) for own in figures.values())])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _alike(name: str, runs: Path) -> list[Path]:
    """The finished runs of a recipe."""
    own = re.compile(re.escape(name) + r"(_s\d+)?")
    trained = (p.parent for p in runs.glob(f"*/{WEIGHTS}") if p.with_name(METRICS).exists())
    found = sorted(run for run in trained if own.fullmatch(run.name))  # what is restored has none
    if len(found) < 2:
        raise DataError(f"{runs}: not yet two finished runs of {name}; train more with --seed N")
    first, *others = (config(run) for run in found)
    free = {"name", "seed", *AFTER_TRAINING}
    if start_of(first["init"])[0] == "pruned":  # which channels go is a matter of chance too
        free.add("arguments")
    for run, other in zip(found[1:], others):
        keys = sorted((first.keys() & other.keys()) - free)
        changed = [k for k in keys if first[k] != other[k]] + _other_lessons(found[0], run)
        if changed:
            raise DataError(
                f"{run}: was trained with other {', '.join(changed)} than {found[0].name}; remove "
                "the older of both and train it anew"
            )
    return found


def _other_lessons(first: Path, other: Path) -> list[str]:
    """What two runs learned from and was not the same: weights of others, pictures."""
    one, two = noted(first), noted(other)
    return sorted(key for key in one.keys() & two.keys() if one[key] != two[key])


def _last(found: Sequence[Path]) -> list[dict[str, float]]:
    """The last epoch's figures of each run, by set and framing, and by group."""
    each = []
    for run in found:
        with (run / METRICS).open(newline="") as file:
            *_, row = csv.DictReader(file)
        figures = {k: v for k, v in row.items() if k not in PLACE and v}
        each.append({k: float(v) for k, v in figures.items()})
    return each


def _cell(each: Sequence[dict[str, float]], key: str) -> str:
    values = [own[key] for own in each if key in own]
    if not values:
        return "-"
    return f"{np.mean(values):.2f} ({min(values):.2f}-{max(values):.2f})"
