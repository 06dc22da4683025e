"""Cut channels out of a trained network, the least useful first, until a face costs little enough.

torch-pruning knows which weights a channel takes with it, and rates them. Which channels go is
then a knapsack (Aflalo et al. 2020), filled greedily: those whose importance is least for each
multiply-accumulate that they cost. They go in units, because kernels compute several at once
(those for INT8 on AVX-512 16). Importance is estimated again on the way; fine-tuning between cuts
is a chain of recipes.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch_pruning
from torch import Tensor, nn
from torch.nn import functional

from gender_edge.errors import DataError

from .. import graph
from ..architectures import Network, network_for
from ..architectures.trunks import Trunks
from ..data.batches import batches, weights_of
from ..data.packs import Pack
from ..precision import DEVICE, autocast
from ..recipe import CHOICES, Recipe
from ..runs import finished
from ..validate import by_network, validate

LOOKS = 8  # estimates of importance on the way to the target, evenly spaced in log MACs
PROBES = 512  # training crops behind each of them


def cut(recipe: Recipe, packs: list[Pack], runs: Path, trunks: Trunks, workers: int = 1) -> Network:
    """What pruning leaves of the network that a recipe starts from.

    Raises:
        DataError: the recipe asks for what cannot be.
    """
    parent, macs = parent_of(recipe, runs)
    return pruned(recipe, parent, macs, probes_of(recipe, packs, runs, trunks, workers))


def parent_of(recipe: Recipe, runs: Path) -> tuple[Network, float]:
    """The network that a recipe prunes, and the multiply-accumulates a face that it wants to keep.

    Raises:
        DataError: it is not there, not of the recipe's kind, or not larger than wanted.
    """
    name = recipe.start[1]
    if not 0 < recipe.remove_macs < 1:
        raise DataError(f"remove_macs={recipe.remove_macs}: expected a share between 0 and 1")
    if recipe.align < 1:
        raise DataError(f"align={recipe.align}: expected 1 or more channels")
    parent = finished(runs / name)
    whole = network_for(recipe)
    for what, own, wanted in (
        ("architecture", type(parent.trunk).__name__, type(whole.trunk).__name__),
        ("grayscale", parent.normalise.grayscale, whole.normalise.grayscale),
    ):
        if own != wanted:
            raise DataError(
                f"init={recipe.init!r}: {what} there is {own}, the recipe's is {wanted}"
            )
    total, own_macs = (graph.cost(network, recipe.input_size)[1] for network in (whole, parent))
    macs = (1 - recipe.remove_macs) * total
    if own_macs <= macs:
        raise DataError(
            f"remove_macs={recipe.remove_macs}: {name} has {own_macs / total:.0%} of the "
            "multiply-accumulates of the recipe's arguments already; remove more, or from another"
        )
    return parent, macs


def probes_of(
    recipe: Recipe, packs: list[Pack], runs: Path, trunks: Trunks, workers: int
) -> list[tuple[Tensor, Tensor]]:
    """Batches of training crops and classes, as the recipe draws them, in its input size."""
    views = replace(recipe, sizes=(recipe.input_size,))
    weights = weights_of(recipe, packs, trunks.ages, runs)
    drawn = batches(views, packs, weights, epoch=0, first=0, workers=workers)
    count = -(-PROBES // recipe.batch_size)
    return [(pixels, labels) for pixels, labels, _ in islice(drawn, count)]


def pruned(
    recipe: Recipe, parent: Network, macs: float, probes: Sequence[tuple[Tensor, Tensor]]
) -> Network:
    """A network with part of a parent's channels, on the CPU; the parent stays as it is.

    Args:
        macs: multiply-accumulates that a face may cost.
        probes: uint8 (N, S, S, 3) and int64 (N,), what "taylor" estimates importance on.

    Raises:
        DataError: networks of this kind have no widths to choose, or this one cannot get so small.
    """
    if not parent.trunk.shape():
        raise DataError(f"{type(parent.trunk).__name__} takes no widths, so it cannot be pruned")
    network = copy.deepcopy(parent).eval()
    _cut(network.to(DEVICE), recipe, macs, [(p.to(DEVICE), c.to(DEVICE)) for p, c in probes])
    narrow = network_for(recipe.with_widths(network.trunk.shape()))
    narrow.load_state_dict(network.state_dict())
    return narrow.eval()


@dataclass
class _Channels:
    """The output channels of one convolution.

    Attributes:
        layer: the convolution.
        uses: how often a face uses each weight, of the layers that lose weights with a channel.
        scores: importance, float (channels,).
        align: to what number of channels cuts are made.
    """

    layer: nn.Conv2d
    uses: Mapping[nn.Conv2d | nn.Linear, int]
    scores: Tensor
    align: int

    @property
    def unit(self) -> int:
        """How many channels go at once."""
        return self.layer.out_channels % self.align or self.align

    @property
    def saving(self) -> float:
        """The multiply-accumulates of a unit."""
        macs = sum(times * layer.weight.numel() for layer, times in self.uses.items())
        return macs * self.unit / self.layer.out_channels

    @property
    def price(self) -> float:
        """The importance of the least important unit, for each multiply-accumulate."""
        return self.scores.topk(self.unit, largest=False).values.sum().item() / self.saving

    def pop(self) -> list[int]:
        """Numbers of the channels of that unit; they are rated no longer."""
        order = self.scores.argsort()
        self.scores = self.scores[order[self.unit :].sort().values]
        return order[: self.unit].tolist()


def _cut(
    network: Network, recipe: Recipe, macs: float, probes: Sequence[tuple[Tensor, Tensor]]
) -> None:
    """Prune in place until a face costs at most `macs`."""
    trunk, size = network.trunk, recipe.input_size
    uses = _uses(network, size)
    pixels = torch.zeros(1, size, size, 3, dtype=torch.uint8, device=network.normalise.mean.device)
    dependencies = torch_pruning.DependencyGraph()
    dependencies.build_dependency(trunk, network.normalise(pixels))
    left = float(graph.cost(network, size)[1])
    for goal in np.geomspace(left, macs, LOOKS + 1)[1:]:
        groups = list(dependencies.get_all_groups([trunk.head], [nn.Conv2d]))
        layers = [
            _Channels(
                group[0].dep.layer,
                {item.dep.layer: uses[item.dep.layer] for item in group if item.dep.layer in uses},
                scores,
                recipe.align,
            )
            for group, scores in zip(groups, _rated(groups, recipe.importance, network, probes))
        ]
        while left > goal:
            wider = [c for c in layers if c.layer.out_channels > c.unit]
            if not wider:
                raise DataError(
                    f"remove_macs={recipe.remove_macs}: {left:.0f} multiply-accumulates are left "
                    f"when every layer has {recipe.align} channels; remove less, or align to fewer"
                )
            cheapest = min(wider, key=lambda c: c.price)
            left -= cheapest.saving
            dependencies.get_pruning_group(
                cheapest.layer, torch_pruning.prune_conv_out_channels, cheapest.pop()
            ).prune()


def _uses(network: Network, size: int) -> dict[nn.Conv2d | nn.Linear, int]:
    """How often a face uses each weight of a layer."""
    macs = graph.macs_by_module(network, size, size)
    return {
        module: macs[name] // module.weight.numel()
        for name, module in network.named_modules()
        if isinstance(module, (nn.Conv2d, nn.Linear))
    }


def _rated(
    groups: list[Any],
    importance: str,
    network: Network,
    probes: Sequence[tuple[Tensor, Tensor]],
) -> list[Tensor]:
    """Importance of each channel of each group, comparable between groups.

    "taylor" is by how much the loss of a batch would move without the channel, to first order, on
    average over batches (Molchanov et al. 2019). What reads the channel says it exactly: to take
    the channel away is to take its weights there. "magnitude" is the squared norm of all weights
    of the channel, as a share of its layer's.
    """
    if importance == "magnitude":
        norm = torch_pruning.importance.GroupMagnitudeImportance(p=2, normalizer="sum")
        return [norm(group) for group in groups]
    slope = torch_pruning.importance.GroupTaylorImportance(
        group_reduction="gate",  # the last layer of a group alone: what reads the channel
        normalizer=None,
        multivariable=True,
    )
    found = []
    for pixels, labels in probes:
        network.zero_grad()
        with autocast(pixels.device):
            logits = network(pixels)
        functional.cross_entropy(logits.float(), labels).backward()  # type: ignore[no-untyped-call]
        found.append([slope(group) for group in groups])
    return [torch.stack(scores).mean(0) for scores in zip(*found)]


def compared(
    recipe: Recipe,
    packs: list[Pack],
    validation: Mapping[str, Pack],
    runs: Path,
    trunks: Trunks,
    workers: int = 1,
) -> str:
    """A table of what both kinds of importance leave of the parent, before any fine-tuning."""
    parent, macs = parent_of(recipe, runs)
    probes = probes_of(recipe, packs, runs, trunks, workers)
    networks = {"before": parent}
    for importance in CHOICES["importance"]:
        own = replace(recipe, importance=importance)
        networks[importance] = pruned(own, parent, macs, probes)
    convolutions = {
        name: [str(network.get_submodule(name).out_channels) for network in networks.values()]
        for name, module in parent.named_modules()
        if name.startswith("trunk.") and isinstance(module, nn.Conv2d)
    }
    costs = [graph.cost(network, recipe.input_size) for network in networks.values()]
    rows = {
        recipe.name: list(networks),
        **convolutions,
        "million MACs": [f"{cost / 1e6:.2f}" for _, cost in costs],
        "million parameters": [f"{parameters / 1e6:.3f}" for parameters, _ in costs],
        "validation, %": [
            f"{validate(by_network(network), validation, recipe.input_size)['mean']:.2f}"
            for network in networks.values()
        ],
    }
    return "\n".join(f"{k:20}" + "".join(f"{cell:>11}" for cell in v) for k, v in rows.items())
