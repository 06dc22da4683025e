from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from export import graph, recipe
from export.__main__ import main
from export.architectures import Network
from export.architectures import build as network
from export.build import Places, build, train_step
from export.compression import prune
from export.compression.prune import pruned
from export.data.packs import Pack
from export.evaluation import card, parent
from export.evaluation.evaluate import evaluate_step
from export.recipe import CHOICES, Recipe, Source
from export.runs import finished, save_weights
from export.training.lessons import Lessons
from export.training.train import train
from gender_edge import DataError

KINDS = {
    "vgg": {"widths": [[16], [24, 16], [32]]},
    "slim": {"stem": 16, "widths": [[24], [16, 32]]},
}
SIZE = 32


def _recipe(architecture: str, **changes: Any) -> Recipe:
    common: dict[str, Any] = {
        "name": "narrow",
        "architecture": architecture,
        "arguments": KINDS[architecture],
        "input_size": SIZE,
        "sizes": (SIZE,),
        "train": (),
        "validate": (),
        "test": (),
        "license": "none",
        "align": 4,
    }
    return Recipe(**{**common, **changes})


def _parent(architecture: str) -> Network:
    """Random weights, no channel that is never active, logits that are not far apart."""
    torch.manual_seed(0)
    parent = network(architecture, KINDS[architecture], grayscale=False).eval()
    for module in parent.trunk.features:
        if isinstance(module, nn.Conv2d):
            nn.init.uniform_(module.weight, 0, 2 / module.weight[0].numel())
            if module.bias is not None:
                nn.init.constant_(module.bias, 150)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.constant_(module.bias, 2)
    nn.init.normal_(parent.trunk.head.weight, std=1e-3)
    return parent


def _convolutions(whole: nn.Module) -> list[nn.Conv2d]:
    return [m for m in whole.modules() if isinstance(m, nn.Conv2d)]


def _probes() -> list[tuple[Tensor, Tensor]]:
    torch.manual_seed(1)
    pixels = torch.randint(0, 256, (2, 4, SIZE, SIZE, 3), dtype=torch.uint8)
    return [(batch, torch.tensor([0, 1, 1, 0])) for batch in pixels]


@pytest.mark.parametrize("importance", CHOICES["importance"])
@pytest.mark.parametrize("architecture", list(KINDS))
@pytest.mark.parametrize("align", [4, 8])
def test_macs_and_widths_are_as_wanted(architecture: str, importance: str, align: int) -> None:
    """At most what may be left, less by no more than the dearest unit; the parent is untouched."""
    parent = _parent(architecture)
    before = graph.cost(parent, SIZE)
    macs = graph.macs_by_module(parent, SIZE, SIZE)
    names = [n for n, m in parent.named_modules() if isinstance(m, nn.Conv2d)]
    layers = zip(_convolutions(parent), names, [*names[1:], "trunk.head"])
    dearest = max((macs[own] + macs[next_]) * align / c.out_channels for c, own, next_ in layers)
    for share in (0.6, 0.3):
        wanted = _recipe(architecture, importance=importance, align=align)
        narrow = pruned(wanted, parent, share * before[1], _probes())
        left = graph.cost(narrow, SIZE)[1]
        assert share * before[1] - dearest < left <= share * before[1]
        assert all(c.out_channels % align == 0 < c.out_channels for c in _convolutions(narrow))
        assert narrow.trunk.width == _convolutions(narrow)[-1].out_channels
    assert graph.cost(parent, SIZE) == before


@pytest.mark.parametrize("importance", CHOICES["importance"])
@pytest.mark.parametrize("architecture", list(KINDS))
def test_the_right_channels_go(architecture: str, importance: str) -> None:
    """Half of all channels are made so that one kind of importance must see them as useless:
    large ones that nobody reads, which "taylor" sees, or light ones, which "magnitude" sees."""
    parent = _parent(architecture)
    convolutions = _convolutions(parent)
    kept = [torch.randperm(c.out_channels)[::2].sort().values for c in convolutions]
    scales = [m for m in parent.modules() if isinstance(m, nn.BatchNorm2d)] or convolutions
    own, read = (10, 0) if importance == "taylor" else (1e-2, 1e-2)
    with torch.no_grad():
        for parts in zip(convolutions, scales, [*convolutions[1:], parent.trunk.head], kept):
            layer, scale, reader, keep = parts
            useless = torch.ones(layer.out_channels, dtype=torch.bool)
            useless[keep] = False
            layer.weight[useless] *= own
            scale.weight[useless] *= own
            reader.weight[:, useless] *= read
    halves = json.loads(json.dumps(KINDS[architecture]), parse_int=lambda text: int(text) // 2)
    target = graph.cost(network(architecture, halves, grayscale=False), SIZE)[1]
    narrow = pruned(_recipe(architecture, importance=importance), parent, target, _probes())
    assert narrow.trunk.shape() == halves
    inputs = [torch.arange(3), *kept]
    for before, after, keep, read in zip(convolutions, _convolutions(narrow), kept, inputs):
        torch.testing.assert_close(after.weight, before.weight[keep][:, read])
    if importance == "taylor":  # nothing was lost, and "magnitude" would have lost something
        pixels = _probes()[0][0]
        torch.testing.assert_close(narrow(pixels), parent(pixels))
        wrong = pruned(_recipe(architecture, importance="magnitude"), parent, target, _probes())
        assert (wrong(pixels) - parent(pixels)).abs().max() > 1e-3


def test_the_narrow_network_is_the_pruned_one() -> None:
    """Rebuilt from its arguments, it answers as the one that was cut in place."""
    for architecture in KINDS:
        parent, wanted = _parent(architecture), _recipe(architecture)
        macs = 0.4 * graph.cost(parent, SIZE)[1]
        narrow = pruned(wanted, parent, macs, _probes())
        prune._cut(parent, wanted, macs, _probes())
        pixels = _probes()[0][0]
        torch.testing.assert_close(narrow(pixels), parent(pixels))


def test_what_cannot_be_pruned() -> None:
    with pytest.raises(DataError, match="FaceResNet takes no widths"):
        pruned(_recipe("vgg"), network("face_resnet", {}, False), 1e6, [])
    with pytest.raises(DataError, match="every layer has 4 channels"):
        pruned(_recipe("vgg", importance="magnitude"), _parent("vgg"), 10.0, [])


@pytest.fixture(scope="module")
def half(built: list[str], recipe_file: Path) -> Recipe:
    """The tiny recipe with half of its multiply-accumulates."""
    return replace(
        recipe.load(str(recipe_file)),
        name="tiny_p50",
        init="pruned:tiny",
        remove_macs=0.5,
        align=2,
        teachers=("tiny",),
        hint_weight=0.5,
        sizes=(32,),
        precisions=("int8",),
    )


def test_the_whole_path_twice(half: Recipe, places: Places, tmp_path: Path) -> None:
    """Pruned from a run and shipped, then pruned on; shares are those of the first network."""
    whole = graph.cost(finished(places.runs / "tiny"), 32)[1]
    assert build(half, replace(places, models=tmp_path), workers=0) == ["tiny_p50_int8"]
    evaluation = json.loads((tmp_path / "tiny_p50_int8" / "evaluation.json").read_text())
    assert 0.4 * whole < evaluation["spec"]["macs"] <= 0.5 * whole
    assert evaluation["sets"]["faces"]["balanced_accuracy"]["value"] > 0.8
    whole_evaluation = json.loads((places.runs / "tiny/int8/evaluation.json").read_text())
    twin, parent = evaluation["against"]
    assert twin["name"] == "tiny_p50_fp32" and twin["macs"] == evaluation["spec"]["macs"]
    assert parent["name"] == "tiny_int8" and parent["macs"] == whole
    assert parent["sets"]["faces"]["groups"] == whole_evaluation["sets"]["faces"]["groups"]
    assert 0 < parent["time"]["low"] <= parent["time"]["value"] <= parent["time"]["high"]
    card = (tmp_path / "tiny_p50_int8" / "card.md").read_text()
    assert "## Against tiny_int8, which it was cut from" in card
    own = evaluation["sets"]["faces"]["balanced_accuracy"]["value"]
    before = whole_evaluation["sets"]["faces"]["balanced_accuracy"]["value"]
    cut = card[card.index("which it was cut from") :].splitlines()
    for start in ("| faces, %", "| mean of the sets, %"):
        row = next(line for line in cut if line.startswith(start))
        assert row.endswith(f"| {100 * (own - before):+.1f} |")
    (row,) = (line for line in cut if line.startswith("| time a face, ms"))
    assert row.startswith(f"| time a face, ms | {parent['ms'][0]:.2f} | {parent['ms'][1]:.2f} |")
    run = places.runs / "tiny_p50"
    assert json.loads((run / "config.json").read_text())["arguments"] == {
        **half.arguments,
        **finished(run).trunk.shape(),
    }
    quarter = replace(half, name="tiny_p75", init="pruned:tiny_p50", remove_macs=0.75)
    found = train_step(quarter, places, workers=0)
    assert 0.15 * whole < graph.cost(found, 32)[1] <= 0.25 * whole
    with pytest.raises(DataError, match=r"tiny_p50 has 4\d% of"):
        train_step(replace(half, name="again", init="pruned:tiny_p50"), places, workers=0)
    further = replace(half, name="further", init="run:tiny_p50", remove_macs=0.0)
    taught = train_step(further, places, workers=0)
    assert taught.trunk.shape() == finished(run).trunk.shape()
    run.rename(tmp_path / "elsewhere")  # what it began with is needed no more
    (places.runs / "further" / "weights.safetensors").unlink()
    again = train_step(further, places, workers=0)
    (tmp_path / "elsewhere").rename(run)
    assert again.trunk.shape() == taught.trunk.shape()
    with pytest.raises(DataError, match="architecture 'vgg' cannot go on from"):
        other = replace(further, name="other", architecture="vgg", arguments={"widths": [[8]]})
        train_step(other, places, workers=0)


def test_a_card_follows_the_network_that_it_was_cut_from(
    half: Recipe, places: Places, tmp_path: Path
) -> None:
    """Built anew, or even trained anew, since."""
    runs = tmp_path / "runs"
    shutil.copytree(places.runs, runs)
    own = replace(places, runs=runs, models=tmp_path)
    last = replace(half, name="last", teachers=())
    build(last, own, workers=0)
    evaluation = runs / "tiny" / "int8" / "evaluation.json"
    content = json.loads(evaluation.read_text())
    content["spec"]["macs"] += 1
    evaluation.write_text(json.dumps(content))
    model = runs / "last" / "int8" / "model.onnx"
    evaluated = json.loads(evaluate_step(last, model, own, shipped=True).read_text())
    assert evaluated["against"][-1]["macs"] == content["spec"]["macs"]
    assert "Against tiny_int8, which it was cut" in card.text(model.parent)
    state = {k: v + 1 for k, v in finished(runs / "tiny").state_dict().items()}
    save_weights(state, runs / "tiny" / "weights.safetensors")
    evaluation.touch()
    evaluate_step(last, model, own, shipped=True)
    assert "Against tiny_int8, an earlier training of which it was" in card.text(model.parent)


def test_what_it_will_be_compared_with_is_asked_for_before_training(
    built: list[str], half: Recipe, places: Places, tmp_path: Path
) -> None:
    parent.check(half, places.runs)
    with pytest.raises(DataError, match="not tested on others, as tiny_p50 will be"):
        parent.check(replace(half, test=(Source("others", "test"),)), places.runs)
    (tmp_path / "tiny").mkdir()
    shutil.copy(places.runs / "tiny" / "config.json", tmp_path / "tiny")
    with pytest.raises(DataError, match="no evaluated model; build that recipe first"):
        parent.check(half, tmp_path)
    with pytest.raises(DataError, match="none: no such run"):
        build(replace(half, name="bad", init="pruned:none"), places, workers=0)
    assert not (places.runs / "bad").exists()


class InterruptionError(Exception):
    pass


def test_an_interrupted_training_keeps_its_widths(
    half: Recipe, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    packs = [Pack(places.runs / "data" / "faces-train")]
    run = places.runs / "interrupted"

    def interrupted(*_: Any) -> Tensor:
        raise InterruptionError

    with monkeypatch.context() as patch:
        patch.setattr(Lessons, "forward", interrupted)
        with pytest.raises(InterruptionError):
            train(half, packs, {"faces": packs[0]}, run, workers=0)
    begun = json.loads((run / "config.json").read_text())["arguments"]
    with pytest.raises(DataError, match="other remove_macs; remove that folder"):
        train(replace(half, remove_macs=0.6), packs, {}, run, workers=0)
    with monkeypatch.context() as patch:
        patch.delattr(prune, "pruned")  # it is not called again
        network = train(half, packs, {"faces": packs[0]}, run, workers=0)
    assert begun == {**half.arguments, **network.trunk.shape()} != half.arguments


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"remove_macs": 0.0}, "remove_macs=0.0: expected a share"),
        ({"remove_macs": 1.0}, "remove_macs=1.0: expected a share"),
        ({"init": "run:tiny"}, "expected init='pruned:NAME'"),
        ({"init": "pruned:none"}, "none: no finished run"),
        ({"align": 0}, "align=0"),
        ({"architecture": "vgg", "arguments": {"widths": [[8]]}}, "architecture there is Slim"),
        ({"grayscale": True}, "grayscale there is False"),
    ],
)
def test_bad_recipes(half: Recipe, places: Places, changes: dict[str, Any], message: str) -> None:
    wanted = replace(half, name="bad", **changes)
    with pytest.raises(DataError, match=message):
        train_step(wanted, places, workers=0)
    assert not (places.runs / "bad").exists()


def test_both_importances_side_by_side(
    half: Recipe,
    places: Places,
    recipe_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "shown.toml"
    entries = 'name = "shown"\ninit = "pruned:tiny"\nremove_macs = 0.5\nalign = 2'
    file.write_text(f'like = "{recipe_file}"\n{entries}')
    argv = ["prune", str(file), "--data", str(places.data), "--runs", str(places.runs)]
    argv += ["--init", "imagenet"]  # for those that start from a trunk: not for this one
    assert main([*argv, "--workers", "0"]) == 0
    rows = [line.rsplit(maxsplit=3) for line in capsys.readouterr().out.splitlines()]
    table = {name.strip(): cells for name, *cells in rows}
    assert table["shown"] == ["before", "taylor", "magnitude"]
    assert [table[f"trunk.features.{n}"][0] for n in (0, 3, 7)] == ["8", "8", "16"]
    before, *after = (float(cell) for cell in table["million MACs"])
    assert all(0.3 * before < macs <= 0.5 * before for macs in after)
    assert float(table["validation, %"][0]) > 80
    assert not (places.runs / "shown").exists()


def test_the_shipped_chain_is_one() -> None:
    """Every link starts from the one before it, removes more, and is a share of the same."""
    links = [recipe.load(f"vgg16_{share}") for share in ("p50_base", "p75", "p90")]
    vgg16, half = recipe.load("vgg16"), recipe.load("vgg16_p50")
    assert [link.remove_macs for link in links] == [0.5, 0.75, 0.9]
    assert [link.init for link in links] == [
        f"pruned:{before.name}" for before in [vgg16, *links[:-1]]
    ]
    assert (half.init, half.remove_macs) == ("run:vgg16_p50_base", 0.0)
    for link in [*links, half]:
        assert link.arguments == vgg16.arguments and link.input_size == vgg16.input_size
        assert {"vgg16", "vgg16_p75"} & set(link.teachers) and link.name not in link.teachers
