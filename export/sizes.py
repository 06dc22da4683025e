"""What the network of a finished run makes of pictures in sizes that it was not taught for.

It tells where to look for the smallest input that holds accuracy; a recipe with that `input_size`
then teaches for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from gender_edge.errors import DataError

from . import graph
from .data.packs import Pack
from .runs import finished, trained_size
from .validate import by_network, validate

SIZES = (32, 40, 48, 56, 64, 72, 80, 96)  # sides in pixels


def table(
    run: Path, validation: Mapping[str, Pack], framings: Sequence[str], sizes: Sequence[int] = SIZES
) -> str:
    """A line a size, as Markdown: its cost, and the mean balanced accuracy on validation.

    Args:
        run: a finished run's folder.
        validation: packed pictures, by name of their set.
        sizes: sides of the input to try, in pixels, beside the run's own.

    Raises:
        DataError: the run is not there or not finished, or a size is too small for its network.
    """
    network, own = finished(run), trained_size(run)
    means = {}
    for size in sorted({own, *sizes}):
        try:
            graph.cost(network, size)
        except RuntimeError as error:
            raise DataError(
                f"{run.name} cannot see {size} pixels ({error}); name others with --sizes"
            ) from error
        means[size] = validate(by_network(network), validation, size, framings)["mean"]
    lines = [
        f"| {size}{' (its own)' if size == own else ''} | "
        f"{graph.cost(network, size)[1] / 1e6:.1f} | {mean:.2f} | {mean - means[own]:+.2f} |"
        for size, mean in means.items()
    ]
    head = f"| input of {run.name}, px | million MACs | validation, % | points |"
    return "\n".join([head, "|---|---|---|---|", *lines])
