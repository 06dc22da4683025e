from __future__ import annotations

import csv
import json
import re
import shutil
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

from export import architectures, graph, latency, recipe
from export.__main__ import ROOT, main
from export.architectures import VGG, VGG_WIDTHS
from export.augment import AUGMENTATIONS, TURN
from export.batches import batches, weights_of
from export.build import Places, build
from export.compare import _start, compare, earlier_rows, markdown, references
from export.data import Pack, pack
from export.initial import settled
from export.recipe import Recipe
from export.runs import remember, save_weights
from export.start import network_of, optimizer_of
from export.train import _Training, learning_rate, train
from export.trunks import Trunks
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
    assert settled(wanted, [faces], run, Trunks()) == wanted
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
    network = network_of(wanted, tmp_path, Trunks(imagenet=file)).eval()
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
    fill = partial(network_of, run=tmp_path)
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


TINY = """
name = "tiny_reference"
architecture = "slim"
arguments = { stem = 8, widths = [[8], [16]] }
input_size = 24
sizes = [24, 24]
augmentation = "rotate_zoom_flip"
optimizer = "adam"
schedule = "constant"
batch_size = 16
precisions = []
license = "none"
protocol = "as published"
published = "99.9 %"
train = [{ list = "celeba_test", split = "train", weight = 2.0 }]
validate = [{ list = "celeba_test", split = "val" }]
test = [{ list = "celeba_test", split = "test" }]
"""


@pytest.fixture(scope="module")
def ran(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, Places]:
    """A reference that was trained for one of its two epochs, and judged, from the command line."""
    home = tmp_path_factory.mktemp("references")
    (home / "boxed").mkdir()
    lines = ["path,label,box"]
    lines += [f"{s.path},{s.label},1 5 50 50" for s in read_labelled(data / "faces")]
    (home / "boxed" / "celeba_test").write_text("\n".join(lines))
    file = home / "tiny_reference.toml"
    file.write_text(TINY)
    argv = ["build", str(file), "--data", str(home / "boxed"), "--runs", str(home / "runs")]
    argv += ["--models", str(home / "models"), "--workers", "0", "--epochs"]
    assert main([*argv, "1"]) == 0
    assert main([*argv, "3"]) == 2, "more epochs than there are"
    places = Places(home / "boxed", home / "runs", home / "models")
    return recipe.load(str(file)), places


def test_a_reference_is_judged_but_not_shipped(ran: tuple[Recipe, Places]) -> None:
    wanted, places = ran
    run = places.runs / wanted.name
    assert not places.models.exists()
    figures = json.loads((run / "fp32" / "evaluation.json").read_text())
    own = figures["sets"]["celeba_test"]
    assert own["faces"] == own["accuracy"]["n"] and "balanced_accuracy_box" not in own
    assert (run / "fp32" / "confusion.png").exists()
    counts = {}
    for split in ("train", "val", "test"):
        file = run / "splits" / f"celeba_test-{split}.csv"
        counts[split] = set(file.read_text().splitlines()[1:])
    assert len(counts["test"]) == own["faces"]
    assert not counts["train"] & counts["test"] and not counts["val"] & counts["test"]
    before = (run / "fp32" / "model.onnx").stat().st_mtime_ns
    assert build(replace(wanted, sizes=wanted.sizes[:1]), places, workers=0) == []
    assert (run / "fp32" / "model.onnx").stat().st_mtime_ns == before


def test_table(ran: tuple[Recipe, Places], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "ROUNDS", 2)
    (tmp_path / "slim_int8").symlink_to(ROOT / "models" / "slim_int8")
    (tmp_path / "spotter").mkdir()
    (tmp_path / "spotter" / "evaluation.json").write_text('{"spec": {"name": "spotter"}}')
    registry = {"models": {"slim_int8": {}}, "detectors": {"spotter": {}}}
    (tmp_path / "registry.json").write_text(json.dumps(registry))
    wanted, places = ran
    begun = replace(wanted, name="begun")
    (places.runs / "begun").mkdir()
    config = (places.runs / wanted.name / "config.json").read_text()
    (places.runs / "begun" / "config.json").write_text(config.replace(wanted.name, "begun"))
    absent, other = replace(wanted, name="absent"), replace(wanted, learning_rate=1.0)
    result = compare([wanted, begun, absent, other], places.runs, tmp_path)
    rows = {row["name"]: row for row in result["rows"]}
    text = markdown(result).splitlines()
    head = cells(text[0])
    table = [dict(zip(head, cells(line))) for line in text[2 : 2 + len(result["rows"])]]
    first = table[0]
    assert first["epochs"] == "1 of 2" and first["published"] == "99.9 %"
    assert first["protocol"] == "as published" and first["trained on"] == "CPU"
    learned = places.runs / wanted.name / "splits" / "celeba_test-train.csv"
    assert first["pictures"] == str(learned.read_text().count("\n") - 1)
    own = json.loads((places.runs / wanted.name / "fp32" / "evaluation.json").read_text())
    accuracy = own["sets"]["celeba_test"]["accuracy"]
    assert first["accuracy"].startswith(f"{100 * accuracy['value']:.1f} (")
    assert first["loss"].startswith(f"{own['sets']['celeba_test']['loss']['value']:.3f} (")
    assert first["MMACs"] == f"{own['spec']['macs'] / 1e6:.0f}"
    assert first["lfw"] == "not measured"
    assert re.fullmatch(r"\d+\.\d\dx", first["of slim_int8"])
    assert table[1]["epochs"] == "not finished" and table[2]["epochs"] == "not run"
    assert all(table[2][column] == "-" for column in ("accuracy", "M param.", "ms a face"))
    assert table[2]["protocol"] == "as published"
    assert table[3]["epochs"] == "run of another recipe (learning_rate)"
    assert [row["reference"] for row in table[4:]] == ["slim_int8"], "detectors have no row"
    shipped = table[4]
    assert shipped["of slim_int8"] == "1.00x" and float(shipped["ms a face"]) > 0
    assert rows["slim_int8"]["sets"]["lfw"]["balanced_accuracy"]["n"] > 6000
    assert all(len(cells(line)) == len(head) for line in text[: 2 + len(table)])


def test_a_row_outlives_its_run(
    ran: tuple[Recipe, Places], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latency, "ROUNDS", 2)
    wanted, places = ran
    file = tmp_path / "table.json"
    file.write_text(json.dumps(compare([wanted], places.runs, tmp_path)))
    before = earlier_rows(file)
    gone = compare([wanted], tmp_path, tmp_path, before)
    assert gone["rows"] == [{**before[0], "kept": True}]
    assert "| tiny_reference (earlier) | 99.9 % | 1 of 2 |" in markdown(gone)
    again = compare([wanted], places.runs, tmp_path, gone["rows"])
    assert "kept" not in again["rows"][0], "measured anew while the run is there"
    shutil.copytree(places.runs / wanted.name, tmp_path / wanted.name)
    (tmp_path / wanted.name / "fp32" / "evaluation.json").unlink()
    reworded = replace(wanted, protocol="in other words")
    begun = compare([reworded], tmp_path, tmp_path, gone["rows"])
    assert begun["rows"] == [{**before[0], "protocol": "in other words", "kept": True}]
    changed = compare([replace(wanted, learning_rate=1.0)], tmp_path, tmp_path, before)
    assert changed["rows"][0]["state"] == "run of another recipe (learning_rate)"
    file.write_text('{"rows": [1]}')
    with pytest.raises(DataError, match="remove it"):
        earlier_rows(file)


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every reference has a row, run or not; ours follow."""
    out = tmp_path / "new" / "table.md"
    argv = ["compare", "--runs", str(tmp_path), "--models", str(tmp_path)]
    assert main([*argv, "--out", str(out)]) == 0
    rows = json.loads(out.with_suffix(".json").read_text())["rows"]
    assert [row["name"] for row in rows] == [own.name for own in references()]
    assert {row["state"] for row in rows} == {"not run"}
    assert len({row["name"] for row in rows}) == len(NAMES) - 2, "all but the two trunks on faces"
    assert main(argv) == 0
    assert out.read_text() in capsys.readouterr().out
