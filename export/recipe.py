"""What makes a variant: one small TOML file in `export/recipes/`, read into a `Recipe`."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Optional

from gender_edge.errors import DataError
from gender_edge.evaluation import FRAMINGS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FOLDER = Path(__file__).parent / "recipes"
TERMS = ("license", "origin")  # of weights: they come with the data
STARTS = ("random", "trunk", "imagenet", "run:NAME", "pruned:NAME", "shipped:NAME")
PRECISIONS = ("fp32", "int8")
CHOICES = {
    "augmentation": ("ours", "ours_randaugment", "rotate_flip", "rotate_zoom_flip"),
    "mixing": ("", "mixup", "cutmix"),
    "teachers_see": ("faces", "views"),
    "optimizer": ("adamw", "adam", "sgd"),
    "schedule": ("cosine", "constant"),
    "importance": ("taylor", "magnitude"),
    "calibration": ("best", "minmax", "entropy", "percentile"),
}


@dataclass(frozen=True)
class Source:
    """One part of the training data: a set, its split, and how often it is drawn.

    Attributes:
        list: name of a labelled folder or list below the data folder (`celeba_trainval.csv`).
        split: which of its splits.
        weight: how often a picture of it is drawn, against 1 for the others.
    """

    list: str
    split: str
    weight: float = 1.0


@dataclass(frozen=True)
class Recipe:
    """Everything that decides how a variant is made.

    Attributes:
        name: `arch[_gray][_pNN]`; the shipped files add the precision.
        architecture: a constructor in `export.architectures`, with its arguments in `arguments`.
        grayscale: reduce the input to luminance in the graph.
        input_size: side of the shipped network's input, in pixels.
        sizes: side of the training crops, one entry per epoch; in files pairs of a side and how
            many epochs of it, in order: [[48, 6], [64, 14]].
        train: the splits that it learns from.
        validate: those that it is watched on, and that INT8's ranges, temperature and thresholds
            are chosen on.
        test: those that are looked at once, for the card.
        limit: how many training pictures there are, drawn by the seed from all; 0 for all.
        augmentation: what training crops go through, of `export.data.augment.AUGMENTATIONS`.
        mixing: of the pictures of a batch with one another, "mixup" or "cutmix" (see
            `export.data.mixing`); empty for none.
        mixing_alpha: of the beta distribution that shares are drawn from, 1 for any share alike and
            less for mostly little; 0 for that of the papers.
        init: where weights start: "random", "trunk" (the file given by --init), "imagenet",
            "run:NAME" for the final weights of another recipe's run, "pruned:NAME" for what
            pruning leaves of that run's network (see `export.compression.prune`), or "shipped:NAME"
            for those of a shipped model (see `export.training.shipped`), whose terms `license` and
            `origin` then tell too.
        remove_macs: share of multiply-accumulates to remove, counted from the uncut network that
            `arguments` describe, not from what the run NAME has left.
        importance: what channels are worth to pruning, "taylor" or "magnitude".
        align: pruning cuts layers to multiples of as many channels.
        clean: list of findings of `python -m export clean`, whose training pictures to drop are
            never drawn; below the folder of runs, or an absolute path. Empty for none.
        balance_ages: draw women and men equally often within each age group (see
            `export.data.ages`).
        balance_ethnicities: that, within each ethnicity of each age group, where it is labelled.
        age_weights: how many times as often ages in years are drawn, as { "0-12" = 2.0 }; given
            or estimated ones, as for balancing.
        frozen: how many leading convolutions keep their initial weights while training (transfer
            learning); they are pruned like the others.
        optimizer: "adamw", "adam" or "sgd".
        schedule: of the learning rate after the warm-up, "cosine" (to zero) or "constant".
        learning_rate: the highest, at the end of the warm-up.
        weight_decay: of kernels; biases and normalisation have none.
        warmup: share of the whole training in which the learning rate rises from nothing.
        batch_size: pictures a step.
        label_smoothing: share of each label that is spread evenly over both, 0 to 1.
        average_decay: of a running mean of the weights by step, which is then what counts
            (EMA); 0 for none.
        teachers: recipes whose mean answer is distilled into this one; none for labels alone.
        teachers_see: "faces", aligned, of which they are asked once; or "views", what the student
            sees (see `export.training.live_answers`).
        distill_weight: share of the teachers' answers in the loss, 0 to 1.
        distill_temperature: softens both sides of that term (Hinton et al. 2015).
        hint_weight: of a further term that draws a linear map of the embedding towards the
            teachers' (Romero et al. 2015, with cosine distance).
        precisions: what is shipped; none for a network that only others start from.
        calibration: "minmax", "entropy" or "percentile", the range estimate for INT8; "best"
            for whichever loses least where it loses most (see `export.compression.int8`).
        calibration_images: how many training crops it sees.
        rounding: feel INT8's rounding while training (see `export.compression.rounding`).
        gate: points of accuracy on validation that INT8 may lose, on the mean and any set
            (balanced), and in any group beyond chance (see `export.compression.int8`).
        aware_epochs: how long it is taught on with rounding where it loses more; 0 for not at all.
        abstain_error: labels are withheld so that at most this share of the given ones is wrong.
        default: the precision that `Classifier()` opens, if it is one of this recipe.
        seed: of the first weights, and of all that is drawn: pictures, their views, dropout.
        origin: what else than these sets the weights come from: published trunks, teachers.
        license: of the weights.
        protocol: for a reference system, a row of `compare`: what is done as published, what not.
        published: the figure that its authors state, as text.
    """

    name: str
    architecture: str
    arguments: Mapping[str, Any]
    input_size: int
    sizes: tuple[int, ...]
    train: tuple[Source, ...]
    validate: tuple[Source, ...]
    test: tuple[Source, ...]
    license: str
    origin: str = ""
    grayscale: bool = False
    limit: int = 0
    augmentation: str = "ours"
    mixing: str = ""
    mixing_alpha: float = 0.0
    init: str = "random"
    remove_macs: float = 0.0
    importance: str = "taylor"
    align: int = 16
    clean: str = ""
    balance_ages: bool = False
    balance_ethnicities: bool = False
    age_weights: tuple[tuple[str, float], ...] = ()
    frozen: int = 0
    optimizer: str = "adamw"
    schedule: str = "cosine"
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    warmup: float = 0.03
    batch_size: int = 128
    label_smoothing: float = 0.0
    average_decay: float = 0.0
    teachers: tuple[str, ...] = ()
    teachers_see: str = "faces"
    distill_weight: float = 0.5
    distill_temperature: float = 2.0
    hint_weight: float = 0.0
    precisions: tuple[str, ...] = ("fp32", "int8")
    default: Optional[str] = None
    calibration: str = "best"
    calibration_images: int = 600
    rounding: bool = False
    gate: float = 0.3
    aware_epochs: int = 1
    abstain_error: float = 0.02
    seed: int = 0
    protocol: str = ""
    published: str = ""

    def __post_init__(self) -> None:
        """Raises DataError for what means nothing."""
        for key, known in CHOICES.items():
            _among(f"{key}={getattr(self, key)!r}", getattr(self, key), known)
        for precision in self.precisions:
            _among(f"precisions={list(self.precisions)}", precision, PRECISIONS)
        if self.mixing_alpha < 0 or (self.mixing_alpha and not self.mixing):
            raise DataError(
                f"mixing_alpha={self.mixing_alpha:g} with mixing={self.mixing!r}: expected 0 or "
                "more, and only with mixing"
            )
        if self.protocol and self.precisions:
            raise DataError("a reference system (protocol) ships nothing: leave precisions out")
        kind, name = self.start
        _among(f"init={self.init!r}", f"{kind}:NAME" if name else kind, STARTS)

    @property
    def start(self) -> tuple[str, str]:
        """What `init` says: the kind of start, and the name of a run or model, else empty."""
        return start_of(self.init)

    @property
    def epochs(self) -> int:
        """One entry of `sizes` is one epoch."""
        return len(self.sizes)

    def with_widths(self, shape: Mapping[str, Any]) -> Recipe:
        """This recipe, with what a trunk's `shape()` says in its arguments."""
        return replace(self, arguments={**self.arguments, **shape})

    @property
    def framings(self) -> tuple[str, ...]:
        """How faces are cut where it is validated and tested; whole where it is trained so."""
        return FRAMINGS if self.augmentation.startswith("ours") else ("whole",)


def start_of(init: str) -> tuple[str, str]:
    """An `init` in two: "pruned:NAME" is ("pruned", "NAME"), "trunk" is ("trunk", "")."""
    kind, _, name = init.partition(":")
    return kind, name


def load(name: str) -> Recipe:
    """Read a recipe by name, or from a path to a TOML file.

    An entry `like = "NAME"` inherits what the file does not say from another recipe; but not
    `name`, which is else the file's, nor `default`; nor `license` and `origin` if the file says
    `train`; nor `protocol` and `published` if it ships something.

    Raises:
        DataError: no such recipe, or an entry that means nothing.
    """
    path, raw = _read(name)
    unknown = set(raw) - {f.name for f in fields(Recipe)}
    if unknown:
        raise DataError(f"{path}: unknown entries {sorted(unknown)}; see export/recipe.py")
    try:
        for key in ("train", "validate", "test"):
            raw[key] = tuple(Source(**entry) for entry in raw.get(key, ()))
        for key in ("precisions", "teachers"):
            if isinstance(raw.get(key), str):
                raise TypeError(f"{key}={raw[key]!r}: expected a list")
            if key in raw:
                raw[key] = tuple(raw[key])
        if "sizes" in raw:
            raw["sizes"] = _by_epoch(raw["sizes"])
        weights = raw.get("age_weights", {})
        if not isinstance(weights, dict):
            raise TypeError(f"age_weights={weights!r}: expected a table, as {{ '0-12' = 2.0 }}")
        raw["age_weights"] = tuple(weights.items())
        return Recipe(**{"name": path.stem, **raw})
    except (TypeError, AttributeError, ValueError) as error:  # DataError is a ValueError
        raise DataError(f"{path}: {error}; see export/recipe.py") from error


def _by_epoch(pairs: Any) -> tuple[int, ...]:
    """The side of each epoch's crops."""
    numbers = isinstance(pairs, list) and all(
        isinstance(pair, list) and len(pair) == 2 and all(type(n) is int and n > 0 for n in pair)
        for pair in pairs
    )
    if not numbers or not pairs:
        raise TypeError(
            f"sizes={pairs!r}: expected pairs of a side in pixels and a number of epochs, as "
            "[[48, 6], [64, 14]]"
        )
    return tuple(side for side, epochs in pairs for _ in range(epochs))


def names() -> list[str]:
    """All recipes as `load` takes them, references as `references/NAME`."""
    files = FOLDER.rglob("*.toml")
    return sorted(p.relative_to(FOLDER).with_suffix("").as_posix() for p in files)


def _among(entry: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        words = [word or "nothing" for word in known]
        raise DataError(f"{entry}: expected {', '.join(words[:-1])} or {words[-1]}")


def _read(name: str) -> tuple[Path, dict[str, Any]]:
    """A recipe's file and its entries, with those of the one that it is like."""
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    if not path.is_file():
        known = ", ".join(names())
        raise DataError(f"no recipe {name!r}; there are {known}, or give a path to a .toml file")
    try:
        raw = tomllib.loads(path.read_text())
    except ValueError as error:
        raise DataError(f"{path}: not TOML ({error}); mend it") from error
    model = raw.pop("like", None)
    if model is None:
        return path, raw
    own = {"name", "default", *(TERMS if "train" in raw else ())}
    if raw.get("precisions"):  # what is shipped is no reference system
        own |= {"protocol", "published"}
    return path, {**{k: v for k, v in _read(model)[1].items() if k not in own}, **raw}
