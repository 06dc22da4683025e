from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from export import architectures, graph, recipe
from export.architectures import VGG, VGG_WIDTHS
from export.architectures.trunks import Trunks
from export.compare import _start
from export.data.augment import AUGMENTATIONS, TURN
from export.data.batches import batches, weights_of
from export.data.packs import Pack, pack
from export.recipe import Recipe
from export.runs import remember, save_weights
from export.training.initial import initial_network, with_start_widths
from export.training.train import _Training, learning_rate, optimizer_of, train
from gender_edge import DataError
from gender_edge.labelled import read_labelled
from gender_edge.samples import Sample
from gender_edge.spec import CropRule

NAMES = [name for name in recipe.names() if name.startswith("references/")]
PLAIN = [n for n in NAMES if "inception" not in n and "178" not in n]


@pytest.fixture(scope="module")
def faces(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Pack:
    samples = read_labelled(data / "faces")[::8]
    return pack(samples, tmp_path_factory.mktemp("pack") / "faces-train")


def small(wanted: Recipe) -> Recipe:
    """The same recipe with few channels, pixels and pictures."""
    arguments: Mapping[str, Any] = wanted.arguments
    if wanted.architecture == "vgg":
        widths = [[8] * len(block) for block in VGG_WIDTHS[arguments["widths"]]]
        arguments = {**arguments, "widths": widths}
    elif wanted.architecture == "slim":
        arguments = {"stem": 4, "widths": [[4], [8]]}
    size = 75 if "inception" in wanted.architecture else 32
    few = {"sizes": (size,), "batch_size": 4, "limit": 12 if wanted.limit else 0}
    return replace(wanted, arguments=arguments, input_size=size, train=wanted.train[:1], **few)


@pytest.fixture(scope="module")
def trunk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """VGG16's convolutions as `small` makes them, in the form of the published ones."""
    file = tmp_path_factory.mktemp("trunk") / "trunk.safetensors"
    torch.manual_seed(0)
    network = VGG(small(recipe.load("references/vgg16_frozen")).arguments["widths"])
    save_file({f"features.{k}": v for k, v in network.features.state_dict().items()}, file)
    return file


@pytest.mark.parametrize("name", NAMES)
def test_recipes_load(name: str) -> None:
    wanted = recipe.load(name)
    assert wanted.name == Path(name).name and not wanted.precisions
    assert set(wanted.sizes) == {wanted.input_size}
    trained = {(s.list, s.split) for s in (*wanted.train, *wanted.validate)}
    assert not any("lfw" in where or split == "test" for where, split in trained)
    assert ("face-pretrained" in wanted.protocol) <= wanted.init.startswith("run:")
    assert not (recipe.FOLDER / f"{wanted.name}.toml").exists(), "two recipes, one run folder"


@pytest.mark.parametrize("name", PLAIN)
def test_a_training_does_what_its_protocol_says(
    name: str, faces: Pack, trunk: Path, tmp_path: Path
) -> None:
    wanted, run = small(recipe.load(name)), tmp_path / "run"
    train(wanted, [faces], {"faces": faces}, run, Trunks(trunk), workers=0)
    before, after = load_file(run / "initial.safetensors"), load_file(run / "weights.safetensors")
    kernels = kernels_of(before)
    kept = [k for k in kernels if torch.equal(before[k], after[k])]
    assert kept == kernels[: wanted.frozen]
    assert not torch.equal(before["trunk.head.weight"], after["trunk.head.weight"])
    if wanted.init == "trunk":
        torch.testing.assert_close(
            before["trunk.features.0.weight"], load_file(trunk)["features.0.weight"]
        )
    rows = list(csv.DictReader((run / "splits" / "faces-train.csv").read_text().splitlines()))
    assert len(rows) == len(faces) and rows[0]["label"] == "female"
    figures = csv.DictReader((run / "metrics.csv").read_text().splitlines())
    assert [k for k in next(figures) if "/" in k] == ["faces/whole"]


def test_a_row_tells_how_long_its_own_trunk_was_taught(tmp_path: Path) -> None:
    assert _start("trunk", tmp_path) == "trunk"
    assert _start("run:inception_v3_faces", tmp_path) == "run:inception_v3_faces"
    asked = recipe.load("references/inception_v3_faces")
    remember(replace(asked, sizes=asked.sizes[:1]), tmp_path / asked.name)
    said = f"run:inception_v3_faces, 1 of {asked.epochs} epochs"
    assert _start("run:inception_v3_faces", tmp_path) == said


def test_frozen_parts() -> None:
    """The whole trunk of VGG16, or all but the three convolutions of its last block."""
    assert [len(block) for block in VGG_WIDTHS["vgg16"]] == [2, 2, 3, 3, 3]
    assert recipe.load("references/vgg16_frozen").frozen == 13
    assert recipe.load("references/vgg16_last_block").frozen == 10


def test_inceptions_learn_from_a_trunk_of_ours(faces: Pack, tmp_path: Path) -> None:
    wanted = replace(small(recipe.load("references/inception_v3_128")), limit=4)
    kind, name = wanted.start
    assert kind == "run"
    trunk, start, run = small(recipe.load(f"references/{name}")), tmp_path / name, tmp_path / "run"
    remember(trunk, start)
    learned = architectures.build(trunk.architecture, trunk.arguments, trunk.grayscale).state_dict()
    save_weights(learned, start / "weights.safetensors")
    assert with_start_widths(wanted, [faces], run, Trunks()) == wanted
    run.mkdir()
    training = _Training(wanted, [faces], run, Trunks())
    loss = training.run_epoch([faces], weights_of(wanted, [faces], None, Path()), workers=0)
    assert np.isfinite(loss) and training.step == 1
    before, after = load_file(run / "initial.safetensors"), training.network.state_dict()
    kernels = kernels_of(before)
    assert all(torch.equal(before[k], learned[k]) for k in kernels)
    assert not any(torch.equal(before[k], after[k]) for k in kernels)


def kernels_of(state: Mapping[str, Tensor]) -> list[str]:
    """The names of the convolutions' weights, by the numbers of their layers."""
    kernels = [k for k, v in state.items() if k.startswith("trunk.") and v.ndim == 4]
    return sorted(kernels, key=lambda k: [int(number) for number in re.findall(r"\d+", k)])


@pytest.mark.parametrize(
    ("name", "optimizer", "rate", "augmentation"),
    [
        ("slim_baseline", torch.optim.Adam, 2e-4, "rotate_flip"),
        ("slim_baseline_gray", torch.optim.Adam, 2e-4, "rotate_flip"),
        ("vgg16_frozen", torch.optim.SGD, 1e-4, "rotate_zoom_flip"),
        ("inception_v3_178_50", torch.optim.Adam, 1e-4, "rotate_flip"),
    ],
)
def test_optimiser_rate_and_augmentation(
    name: str, optimizer: type, rate: float, augmentation: str
) -> None:
    wanted = recipe.load(f"references/{name}")
    found = optimizer_of(wanted, nn.Linear(2, 2))
    assert type(found) is optimizer
    assert all(group["weight_decay"] == 0 for group in found.param_groups)
    assert {
        learning_rate(rate, wanted.warmup, done, wanted.schedule) for done in (0.0, 0.3, 0.999)
    } == {rate}
    assert wanted.augmentation == augmentation


@pytest.mark.parametrize(("augmentation", "zoom"), [("rotate_flip", 0), ("rotate_zoom_flip", 0.2)])
def test_plain_augmentations(augmentation: str, zoom: float) -> None:
    """Where a dot above the centre goes: turned by all angles up to the limit, mirrored in half."""
    image = np.zeros((81, 121, 3), np.uint8)  # the square of its area has 99 pixels a side
    image[40 - 25 : 40 - 22, 60 + 4 : 60 + 7] = 255  # its centre 24 above, 5 to the right
    sample = Sample(Path("a.png"), "female", box=(0, 0, 9, 9))
    rng, found = np.random.default_rng(0), []
    for _ in range(300):
        crop = AUGMENTATIONS[augmentation](image, sample, CropRule(), 99, rng)
        edge = crop[..., 0].astype(float) * (crop[..., 0] != CropRule().fill)
        rows, columns = np.nonzero(edge > 140)
        found.append((columns.mean() - 49, 49 - rows.mean()))
    x, y = np.array(found).T
    scale = np.hypot(x, y) / np.hypot(5, 24)
    assert scale.min() == pytest.approx(1 - zoom, abs=0.03)
    assert scale.max() == pytest.approx(1 + zoom, abs=0.03)
    angle = np.degrees(np.arctan2(x, y))
    own = np.degrees(np.arctan2(5, 24))
    assert angle.min() == pytest.approx(-own - TURN, abs=1.5)
    assert angle.max() == pytest.approx(own + TURN, abs=1.5)
    assert abs(np.mean(angle)) < 2.5


def test_a_limit_draws_the_same_pictures(faces: Pack) -> None:
    wanted = replace(small(recipe.load("references/vgg16_128")), limit=12)
    weights = weights_of(wanted, [faces], None, Path())
    assert weights.sum() == 12 and set(weights) == {0.0, 1.0}
    np.testing.assert_array_equal(weights, weights_of(wanted, [faces], None, Path()))
    seen = [batch[2] for batch in batches(wanted, [faces], weights, 0, 0, 0)]
    assert sorted(torch.cat(seen).tolist()) == np.flatnonzero(weights).tolist()
    with pytest.raises(DataError, match="there are 30 pictures"):
        weights_of(replace(wanted, limit=31), [faces], None, Path())


def published(name: str) -> nn.Module:
    """A library's network as its ImageNet weights fill it, with random weights."""
    torch.manual_seed(0)
    if name == "inception_v3":
        from torchvision.models import inception_v3

        return inception_v3(weights=None, init_weights=False, transform_input=True)
    from timm import create_model

    return create_model(name)


@pytest.mark.parametrize(
    ("name", "mean", "deviation", "head"),
    [
        ("inception_v3", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "fc"),
        ("inception_resnet_v2", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "classif"),
    ],
)
def test_imagenet_weights_see_the_same_picture(
    name: str,
    mean: tuple[float, ...],
    deviation: tuple[float, ...],
    head: str,
    tmp_path: Path,
) -> None:
    """The library's network on its own input, against ours from its state dict, on pixels."""
    theirs = published(name).eval()
    wanted = replace(recipe.load(f"references/{name}_128"), init="imagenet")
    file = tmp_path / "state.pth"
    torch.save(theirs.state_dict(), file)
    network = initial_network(wanted, tmp_path, Trunks(imagenet=file)).eval()
    pixels = torch.randint(0, 256, (2, 75, 75, 3), dtype=torch.uint8)
    rgb = pixels.flip(3).permute(0, 3, 1, 2) / 255
    standard = (rgb - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(deviation).view(3, 1, 1)
    setattr(theirs, head, nn.Identity())
    with torch.inference_mode():
        embedding = network.answer(pixels)[1]
        torch.testing.assert_close(embedding, theirs(standard), atol=1e-4, rtol=1e-3)


def test_inception_as_onnx(tmp_path: Path) -> None:
    network, file = architectures.build("inception_v3", {}, grayscale=False), tmp_path / "a.onnx"
    graph.export(network, 75, file)
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    pixels = torch.randint(0, 256, (2, 75, 75, 3), dtype=torch.uint8)
    found = session.run(None, {graph.INPUT: pixels.numpy()})[0]
    with torch.inference_mode():
        np.testing.assert_allclose(found, network(pixels), atol=1e-4, rtol=1e-3)


def test_imagenet_weights_that_do_not_fit(tmp_path: Path) -> None:
    fill = partial(initial_network, run=tmp_path)
    wanted = replace(small(recipe.load("references/vgg16_frozen")), init="imagenet")
    file = tmp_path / "a.safetensors"
    with pytest.raises(DataError, match="imagenet:FILE"):
        fill(wanted, trunks=Trunks(imagenet=file))
    save_file({"features.0.weight": torch.zeros(2)}, file)
    with pytest.raises(DataError, match="imagenet:FILE"):
        fill(wanted, trunks=Trunks(imagenet=file))
    file.with_suffix(".pth").write_bytes(b"not a state dict")
    with pytest.raises(DataError, match="imagenet:FILE"):
        fill(wanted, trunks=Trunks(imagenet=file.with_suffix(".pth")))
    with pytest.raises(DataError, match="expected one of vgg11"):
        fill(wanted, trunks=Trunks())
    with pytest.raises(DataError, match="none for Slim"):
        fill(
            replace(small(recipe.load("references/slim_baseline")), init="imagenet"),
            trunks=Trunks(),
        )
    with pytest.raises(DataError, match="take grayscale out"):
        architectures.build("inception_v3", {}, grayscale=True)
