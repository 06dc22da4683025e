from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torchvision import models

from export.__main__ import main
from export.architectures import build
from export.data.ages import MOST_OFTEN, _name, ages_of, balancing, by_age
from export.data.batches import weights_of
from export.data.packs import Pack, pack
from export.recipe import Source, load
from export.runs import finished
from gender_edge import DataError
from gender_edge.lists import write_csv
from gender_edge.samples import Sample


def faces(folder: Path, ages: list[int | None], labels: list[str]) -> Pack:
    """Discs on noise that shrink with age, so that age can be read off the pixels."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    samples = []
    for number, (age, label) in enumerate(zip(ages, labels)):
        image = rng.integers(0, 40, (48, 48, 3), np.uint8)
        cv2.circle(image, (24, 24), 22 - (age or number) // 4, (220, 220, 220), -1)
        cv2.imwrite(str(folder / f"{number}.png"), image)
        box = (4.0, 4.0, 40.0, 40.0)
        samples.append(Sample(folder / f"{number}.png", label, box=box, age=age))
    return pack(samples, folder / "pack")


@pytest.fixture(scope="module")
def trunk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """VGG16's convolutions, untrained: even random features tell a disc's size."""
    file = tmp_path_factory.mktemp("trunk") / "vgg16.safetensors"
    network = build("vgg", {"widths": "vgg16"}, False).trunk
    state = network.features.state_dict()  # type: ignore[union-attr, operator]
    save_file({f"features.{k}": v for k, v in state.items()}, file)
    return file


def test_women_and_men_of_an_age_come_equally_often(tmp_path: Path) -> None:
    labels = ["female"] * 4 + ["male"] * 2 + ["female"] + ["male"] * 9 + ["male"]
    ages = [25] * 6 + [65] * 10 + [10]
    packed = faces(tmp_path / "a", list(ages), labels)
    weights = balancing(packed, np.array(ages, float), np.ones(17, bool))
    np.testing.assert_array_equal(weights[:6], [1, 1, 1, 1, 2, 2])
    np.testing.assert_array_equal(weights[6:16], [MOST_OFTEN] + [1] * 9)
    assert weights[16] == 1  # nobody to balance with
    kept = np.arange(17) > 1  # two women of 25 are left out, and two men stand against two
    np.testing.assert_array_equal(balancing(packed, np.array(ages, float), kept)[2:6], [1] * 4)


def test_ethnicities_are_balanced_each_for_itself(tmp_path: Path) -> None:
    """Two women and one man of each; two women and two men more of whom it is not known."""
    labels = ["female", "female", "male"] * 2 + ["female", "male"] * 2
    packed = faces(tmp_path / "a", [25] * 10, labels)
    for sample, ethnicity in zip(range(6), ["asian"] * 3 + ["indian"] * 3):
        packed.samples[sample] = replace(packed.samples[sample], ethnicity=ethnicity)
    ages, kept = np.full(10, 25.0), np.ones(10, bool)
    weights = balancing(packed, ages, kept, ethnicities=True)
    np.testing.assert_array_equal(weights, [1, 1, 2, 1, 1, 2, 1, 1, 1, 1])
    together = balancing(packed, ages, kept)
    np.testing.assert_allclose(together[[2, 5, 7, 9]], 6 / 4)


def test_ages_are_weighed(tmp_path: Path) -> None:
    ages = np.array([-3.0, 0, 12.9, 13, 50, 71])
    weights = by_age(ages, [("0-12", 2.0), ("50-70", 0.5)])
    np.testing.assert_array_equal(weights, [2, 2, 2, 1, 0.5, 1])
    for years, factor in (("12", 1.0), ("9-3", 1.0), ("a-b", 1.0), ("0-12", -1.0)):
        with pytest.raises(DataError, match=f"age_weights: '{years}' = "):
            by_age(ages, [(years, factor)])
    path = tmp_path / "children.toml"
    path.write_text('like = "slim"\nage_weights = { "0-12" = 2.0, "20-30" = 0.5 }\n')
    packed = faces(tmp_path / "a", [25, 5, 25], ["female", "male", "male"])
    recipe = replace(load(str(path)), train=(Source("a", "train", 3.0),), balance_ages=False)
    np.testing.assert_array_equal(weights_of(recipe, [packed], None, tmp_path), [1.5, 6, 1.5])


def test_known_ages_are_taken_as_they_are(tmp_path: Path) -> None:
    packed = faces(tmp_path / "a", [3, 50], ["female", "male"])
    np.testing.assert_array_equal(ages_of([packed], None)[0], [3, 50])


@pytest.fixture
def half(tmp_path: Path) -> list[Pack]:
    """Sixty faces, and the same again, of whom nobody said how old they are."""
    rng = np.random.default_rng(1)
    ages = [int(a) for a in rng.integers(1, 80, 60)]
    known = faces(tmp_path / "known", list(ages), [("female", "male")[i % 2] for i in range(60)])
    without = pack([replace(s, age=None) for s in known.samples], tmp_path / "without")
    return [known, without]


def test_missing_ages_are_estimated_once(half: list[Pack], trunk: Path) -> None:
    ages, estimated = ages_of(half, trunk)
    assert np.corrcoef(estimated, ages)[0, 1] > 0.8
    (cache,) = half[1].folder.rglob("*ages*")
    np.save(cache, estimated + 1)
    for again in (trunk, None):  # where one trunk was asked, it need not be named
        np.testing.assert_array_equal(ages_of(half, again)[1], estimated + 1)


def test_estimates_are_of_a_trunk_and_of_faces(
    half: list[Pack], trunk: Path, tmp_path: Path
) -> None:
    """What another trunk said, or what was fitted on others, is not taken for it."""
    _, estimated = ages_of(half, trunk)
    other = tmp_path / "other.safetensors"
    save_file({k: -v for k, v in load_file(trunk).items()}, other)
    assert (ages_of(half, other)[1] != estimated).any()
    with pytest.raises(DataError, match="--age-trunk FILE"):  # which of both?
        ages_of(half, None)
    np.testing.assert_array_equal(ages_of(half, trunk)[1], estimated)
    fewer = faces(tmp_path / "fewer", [20, 70], ["female", "male"])
    assert _name([fewer, half[1]], trunk) != _name(half, trunk)


def test_what_is_needed_is_said(tmp_path: Path, trunk: Path) -> None:
    nobody = faces(tmp_path / "a", [None, None], ["female", "male"])
    with pytest.raises(DataError, match="must have an age"):
        ages_of([nobody], trunk)
    half = faces(tmp_path / "b", [20, None], ["female", "male"])
    with pytest.raises(DataError, match="--age-trunk FILE"):
        ages_of([half], None)
    with pytest.raises(DataError, match=r"no such file .*none\); name it with --age-trunk"):
        ages_of([half], tmp_path / "none")
    save_file({"features.0.weight": torch.zeros(3)}, tmp_path / "other")
    with pytest.raises(DataError, match="--age-trunk FILE takes"):
        ages_of([half], tmp_path / "other")


VGG = """
name = "published"
architecture = "vgg"
arguments = { widths = "vgg11" }
frozen = 8
input_size = 32
sizes = [[32, 1]]
batch_size = 8
balance_ages = true
license = "none"
train = [{ list = "faces.csv", split = "train" }]
validate = [{ list = "faces.csv", split = "val" }]
"""


def test_ages_have_a_trunk_of_their_own(
    tmp_path: Path, trunk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The network starts from torchvision's weights, ages are estimated with the file's."""
    made = faces(tmp_path / "a", [20, None, 60, None] * 8, ["female", "male"] * 16).samples
    samples = [replace(s, split="val" if n < 4 else "train") for n, s in enumerate(made)]
    write_csv(samples, tmp_path / "faces.csv")
    (tmp_path / "vgg.toml").write_text(VGG)
    published = models.vgg11(weights=None).features.state_dict()
    state = {f"features.{k}": v for k, v in published.items()}
    save_file(state, tmp_path / "published.safetensors")
    argv = ["train", str(tmp_path / "vgg.toml"), f"--data={tmp_path}", f"--runs={tmp_path}"]
    argv += ["--workers=0", f"--init=imagenet:{tmp_path / 'published.safetensors'}"]
    assert main(argv) == 2
    assert "--age-trunk" in capsys.readouterr().err
    assert main([*argv, f"--age-trunk={trunk}"]) == 0
    last = finished(tmp_path / "published").trunk.features.state_dict()["18.weight"]  # type: ignore[operator, union-attr]
    torch.testing.assert_close(last, published["18.weight"])  # frozen: as it started
    assert len(list(tmp_path.rglob("ages-*.npy"))) == 1


def test_weights_of_sets_and_ages_multiply(tmp_path: Path) -> None:
    packed = faces(tmp_path / "a", [25, 25, 25], ["female", "male", "male"])
    recipe = replace(load("slim"), train=(Source("a", "train", 2.0),))
    np.testing.assert_array_equal(weights_of(recipe, [packed], None, tmp_path), [4, 2, 2])
    plain = replace(recipe, balance_ages=False)
    np.testing.assert_array_equal(weights_of(plain, [packed], None, tmp_path), [2, 2, 2])
