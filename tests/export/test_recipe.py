from __future__ import annotations

import json
import re
from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the workshop needs torch: pip install 'gender_edge[export]'")

from torch import nn

from export import recipe
from export.compression import quantize
from export.data import augment, mixing
from export.evaluation import parent
from export.runs import CONFIG
from export.training.train import learning_rate, optimizer_of
from gender_edge.errors import DataError
from gender_edge.zoo import EVALUATION

OPTIMIZERS = recipe.CHOICES["optimizer"]


@pytest.mark.parametrize("name", recipe.names())
def test_recipes_here_can_be_read(name: str) -> None:
    assert recipe.load(name).name == Path(name).name


def test_every_word_that_is_allowed_means_something() -> None:
    assert set(recipe.CHOICES["augmentation"]) == set(augment.AUGMENTATIONS)
    assert set(recipe.CHOICES["mixing"]) == {"", *mixing.ALPHAS}
    assert set(recipe.CHOICES["calibration"]) == {"best", *quantize.METHODS}
    own, layer = recipe.load("slim"), nn.Linear(2, 2)
    kinds = {type(optimizer_of(replace(own, optimizer=o), layer)) for o in OPTIMIZERS}
    assert len(kinds) == len(OPTIMIZERS)
    schedules = recipe.CHOICES["schedule"]
    assert len({learning_rate(1.0, 0.0, 0.3, own) for own in schedules}) == len(schedules)


def test_every_entry_is_explained() -> None:
    text = recipe.Recipe.__doc__ or ""
    names = [f.name for f in fields(recipe.Recipe)]
    assert [n for n in names if not re.search(rf"^ +{n}: |`{n}`", text, re.MULTILINE)] == []


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ('optimizer = "lion"', "expected adamw, adam or sgd"),
        ('schedule = "steps"', "expected cosine or constant"),
        ('mixing = "blend"', "expected nothing, mixup or cutmix"),
        (
            'augmentation = "none"',
            "expected ours, ours_randaugment, rotate_flip or rotate_zoom_flip",
        ),
        ("mixing_alpha = 1.0", "only with mixing"),
        ('teachers = "slim"', "teachers='slim': expected a list"),
        ("sizes = [64, 64]", "expected pairs of a side in pixels and a number of epochs"),
        ("sizes = [[48, 0]]", "expected pairs of a side in pixels and a number of epochs"),
        ("sizes = [[48.5, 2]]", "expected pairs of a side in pixels and a number of epochs"),
        ("sizes = []", "expected pairs of a side in pixels and a number of epochs"),
        ('age_weights = "abc"', "age_weights='abc': expected a table"),
        ('mixing = "mixup"\nmixing_alpha = -1.0', "expected 0 or more"),
        ('importance = "guess"', "expected taylor or magnitude"),
        ('calibration = "mean"', "expected best, minmax, entropy or percentile"),
        ('precisions = ["int8", "fp16"]', "expected fp32 or int8"),
        ('init = "pruned"', "expected random, trunk, imagenet, run:NAME"),
        ('init = "random:slim"', "expected random, trunk, imagenet, run:NAME"),
        ("init = 3", "mine.toml"),
        ('init = "file:slim"', "expected random, trunk, imagenet, run:NAME"),
        ("epochs = 3", "unknown entries"),
        ('like = "slimmest"', "no recipe 'slimmest'"),
        ("name = 3.5.1", "not TOML"),
        ('protocol = "as published"', "ships nothing: leave precisions out"),
    ],
)
def test_a_word_that_means_nothing_is_told_at_once(
    entry: str, message: str, tmp_path: Path
) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(entry if "like" in entry else f'like = "slim"\n{entry}\n')
    with pytest.raises(DataError, match=message):
        recipe.load(str(file))


def test_a_recipe_is_named_by_its_file(tmp_path: Path) -> None:
    """Not by what it is like, whose run and shipped files it would write over."""
    file = tmp_path / "mine.toml"
    file.write_text('like = "slim"\nsizes = [[48, 2], [64, 1]]\n')
    mine = recipe.load(str(file))
    assert mine.name == "mine" and mine.sizes == (48, 48, 64)
    file.write_text('like = "slim"\nname = "other"\n')
    assert recipe.load(str(file)).name == "other"


def test_what_a_recipe_is_like_does_not_lend_terms_for_other_data(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('like = "slim"\nname = "mine"\n')
    mine, slim = recipe.load(str(file)), recipe.load("slim")
    assert mine == replace(slim, name="mine", default=None)
    file.write_text('like = "slim"\ntrain = [{ list = "a.csv", split = "train" }]\n')
    with pytest.raises(DataError, match="license"):
        recipe.load(str(file))


def test_what_recipes_here_are_compared_with_is_known(tmp_path: Path) -> None:
    """By the configurations that trainings leave, and evaluations of what ships."""
    recipes = {own.name: own for own in map(recipe.load, recipe.names())}
    for own in recipes.values():
        run = tmp_path / own.name
        run.mkdir()
        (run / CONFIG).write_text(json.dumps(asdict(own)))
        for precision in {"fp32", *own.precisions} if own.precisions else ():
            (run / precision).mkdir()
            sets = {Path(source.list).stem: {} for source in own.test}
            (run / precision / EVALUATION).write_text(json.dumps({"sets": sets}))
    for own in recipes.values():
        parent.check(own, tmp_path)
    compared = parent._others(recipes["slim_p75"], "int8", tmp_path)
    assert [why for why, _ in compared] == ["which it was cut from"]


def test_what_is_shipped_is_no_reference_system(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('like = "references/vgg16_last_block"\nname = "mine"\nprecisions = ["int8"]\n')
    mine, reference = recipe.load(str(file)), recipe.load("references/vgg16_last_block")
    assert reference.protocol and reference.published
    assert (mine.protocol, mine.published) == ("", "") and mine.frozen == reference.frozen
