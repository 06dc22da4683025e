"""Ages for training pictures, and how often each is drawn so that age says little of gender.

Photographs of older women are rare: past 50, nearly two of three faces in the training sets are men
(a training logs the counts), so a network learns "old, hence male". Sets without ages get estimated
ones, good enough to group by (ten years off on average): a ridge regression on features of the
ImageNet trunk, fitted on the sets that have ages. They are used here and nowhere else.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from gender_edge.errors import DataError

from ..architectures import Network, build
from ..architectures.trunks import load_vgg, there
from ..files import digest, replacing
from ..precision import autocast
from .packs import Pack

logger = logging.getLogger(__name__)

GROUPS = (4, 13, 20, 30, 40, 50, 60)  # years: where one age group ends and the next begins
MOST_OFTEN = 4.0  # a rare face is drawn at most so many times as often as a common one
SIDE, BATCH = 48, 128  # px and pictures that the trunk sees at a time
FITTED_ON = 5000  # pictures of each set
RIDGE = 1000.0  # penalty, of standardised features


def balancing(
    pack: Pack, ages: np.ndarray, kept: np.ndarray, ethnicities: bool = False
) -> np.ndarray:
    """How often each picture is drawn, so that women and men of an age group come equally often.

    Args:
        ages: years, float (N,).
        kept: bool (N,), which are drawn at all.
        ethnicities: whether groups are of one ethnicity, those without one being a group too.

    Returns:
        Float64 (N,): 1 for the more frequent of both in a group, up to `MOST_OFTEN` for the other.
    """
    groups = np.digitize(ages, GROUPS).astype(str)
    if ethnicities:
        groups = np.array([f"{g} {s.ethnicity or ''}" for g, s in zip(groups, pack.samples)])
    female = np.array([s.label == "female" for s in pack.samples])
    weights = np.ones(len(pack))
    for group in np.unique(groups):
        inside = (groups == group) & kept
        women, men = inside & female, inside & ~female
        counts = np.count_nonzero(women), np.count_nonzero(men)
        logger.info("%s, age group %s: %d women, %d men", pack.folder.name, group, *counts)
        rare, often = sorted((women, men), key=np.count_nonzero)
        if rare.any():
            weights[rare] = min(np.count_nonzero(often) / np.count_nonzero(rare), MOST_OFTEN)
    return weights


def by_age(ages: np.ndarray, weights: Iterable[tuple[str, float]]) -> np.ndarray:
    """How often each picture is drawn by its age in years, float (N,): float64 (N,).

    Args:
        weights: first and last year ("0-12"), and how often those between are drawn.

    Raises:
        DataError: years that are none.
    """
    factors, ages = np.ones(len(ages)), np.maximum(ages, 0)  # estimates can be less
    for years, factor in weights:
        first, _, last = years.partition("-")
        if not (first.isdigit() and last.isdigit() and int(first) <= int(last) and factor >= 0):
            raise DataError(f"age_weights: {years!r} = {factor}; expected such as '0-12' = 2.0")
        factors[(ages >= int(first)) & (ages < int(last) + 1)] *= factor
    return factors


def ages_of(packs: Sequence[Pack], trunk: Path | None) -> list[np.ndarray]:
    """Years, float (N,), of every picture of every pack: as labelled, else estimated.

    Args:
        trunk: safetensors of VGG16's convolutions; needed where a pack has no ages, unless they
            were estimated before.

    Raises:
        DataError: ages are missing and cannot be estimated.
    """
    known = [np.array([s.age for s in p.samples], float) for p in packs]  # None becomes NaN
    if all(np.isfinite(own).all() for own in known):
        return known
    if not any(np.isfinite(own).any() for own in known):
        raise DataError(
            "ages: some training pictures must have an age to estimate the others' from; take what "
            "balances or weighs by age out of the recipe"
        )
    name, estimate = _name(packs, trunk), None
    for pack, own in zip(packs, known):
        missing = ~np.isfinite(own)
        if missing.any():
            cache = _cache(pack, name)
            if not cache.exists():
                if trunk is None:
                    raise DataError(
                        "ages: some training pictures have none; name VGG16's trunk with "
                        "--age-trunk FILE to estimate them, or take what balances or weighs by age "
                        "out of the recipe"
                    )
                estimate = estimate or _estimator(packs, known, trunk)
                with replacing(cache) as partial:
                    np.save(partial, estimate(pack))
            logger.info("%s: estimated ages of %s", pack.folder.name, cache.name)
            own[missing] = np.load(cache)[missing]
    return known


def _name(packs: Sequence[Pack], trunk: Path | None) -> str:
    """File name of the estimates: digests of the faces they are fitted on and of the trunk, which
    is * where none is named.
    """
    fitted_on = [(s.name, s.label, s.age) for p in packs for s in p.samples if s.age is not None]
    faces = hashlib.sha256(repr(fitted_on).encode()).hexdigest()[:16]
    own = "*" if trunk is None else digest(there(trunk, "--age-trunk FILE"))[:16]
    return f"ages-{faces}-{own}.npy"


def _cache(pack: Pack, name: str) -> Path:
    """The pack's file of that name; if * matches several, none of them."""
    found = list(pack.derived("").glob(name))
    return found[0] if len(found) == 1 else pack.derived(name)


def _estimator(
    packs: Sequence[Pack], known: Sequence[np.ndarray], trunk: Path
) -> Callable[[Pack], np.ndarray]:
    """Ridge regression of age on features of the trunk and on the label.

    The label is among the inputs, so that men are not estimated older for being men.
    """
    from sklearn.linear_model import Ridge  # here: an import of seconds that few need
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    network = build("vgg", {"widths": "vgg16"}, False).eval()
    load_vgg(network.trunk, trunk, "--age-trunk FILE")  # type: ignore[arg-type]
    inputs, ages = [], []
    for pack, own in zip(packs, known):
        chosen = np.flatnonzero(np.isfinite(own))
        if not len(chosen):
            continue
        chosen = np.random.default_rng(0).permutation(chosen)[:FITTED_ON]
        inputs.append(_inputs(network, pack, chosen))
        ages.append(own[chosen])
    model = make_pipeline(StandardScaler(), Ridge(RIDGE))
    model.fit(np.concatenate(inputs), np.concatenate(ages))
    return lambda pack: np.asarray(model.predict(_inputs(network, pack, np.arange(len(pack)))))


@torch.inference_mode()
def _inputs(network: Network, pack: Pack, chosen: np.ndarray) -> np.ndarray:
    """Features and label of some pictures: float32 (N, 2561)."""
    parts = []
    for start in tqdm(range(0, len(chosen), BATCH), "ages", disable=None):
        numbers = [int(i) for i in chosen[start : start + BATCH]]
        with autocast(torch.device("cpu")):
            features = _features(network, torch.from_numpy(pack.crops(numbers, SIDE))).numpy()
        female = np.array([[pack.samples[i].label == "female"] for i in numbers], np.float32)
        parts.append(np.concatenate([features, female], 1))
    return np.concatenate(parts)


def _features(network: Network, pixels: torch.Tensor) -> torch.Tensor:
    """Means and maxima of the maps behind the third and later pools: float (N, 2560)."""
    x, found = network.normalise(pixels), []
    for layer in network.trunk.features:  # type: ignore[operator, union-attr]
        x = layer(x)
        if isinstance(layer, torch.nn.MaxPool2d):
            found += [x.mean((2, 3)), x.amax((2, 3))]
    return torch.cat(found[4:], 1).float()
