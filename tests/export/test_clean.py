from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from export import recipe
from export.__main__ import main
from export.architectures import build
from export.clean import clean, cross_validated, find_wrong_labels
from export.data.batches import weights_of
from export.data.contact_sheet import COLUMNS, SIDE
from export.data.findings import COPY, Finding, Pictures, dropped, label_noise, write
from export.data.prepare import Places, packed
from export.recipe import Recipe, Source
from export.runs import WEIGHTS, remember
from gender_edge import DataError
from gender_edge.lists import write_csv
from gender_edge.samples import LABELS, Sample

BOX = (1.0, 5.0, 50.0, 50.0)
GREEN = (40, 200, 40)


class Drawings:
    """Two annotated sets of discs on noise, red ones "female" and blue ones "male": even an
    untrained network tells them apart.
    """

    def __init__(self, home: Path) -> None:
        self.home, self.rng = home, np.random.default_rng(0)
        self.sets: dict[str, list[Sample]] = {"faces": [], "more": []}

    def add(self, where: str, label: str, image: np.ndarray | None = None) -> Sample:
        """A disc, or a given picture, in one "set:split"."""
        name, split = where.split(":")
        if image is None:
            image = self.rng.integers(0, 90, (60, 52, 3)).astype(np.uint8)
            center = (int(self.rng.integers(18, 35)), int(self.rng.integers(18, 43)))
            color = (60, 60, 220) if label == "female" else (220, 60, 60)
            cv2.circle(image, center, 12, color, -1)
        path = self.home / f"{name}-{len(self.sets[name])}.png"
        cv2.imwrite(str(path), image)
        age = float(len(self.sets[name]) % 52)  # a quarter are children
        self.sets[name].append(Sample(path, label, split=split, box=BOX, age=age))
        return self.sets[name][-1]

    def spoil(self, sample: Sample, **changes: str | None) -> None:
        """Say something else of a picture."""
        for samples in self.sets.values():
            for place, own in enumerate(samples):
                if own == sample:
                    samples[place] = replace(sample, **changes)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Cleaned:
    recipe: Recipe
    places: Places
    out: Path
    report: str
    planted: dict[str, dict[Path, Path | None]]

    def rows(self, reason: str) -> list[dict[str, str]]:
        lines = (self.out / "findings.csv").read_text().splitlines()
        return [row for row in csv.DictReader(lines) if row["reason"] == reason]


@pytest.fixture(scope="module")
def cleaned(tmp_path_factory: pytest.TempPathFactory, recipe_file: Path) -> Cleaned:
    home = tmp_path_factory.mktemp("clean")
    made = Drawings(home)
    for where, count in (("more:train", 40), ("faces:train", 200), ("faces:val", 30)):
        for number in range(count):
            made.add(where, LABELS[number % 2])
    tested = [made.add("faces:test", LABELS[number % 2]) for number in range(40)]
    trained = [s for s in made.sets["faces"] if s.split == "train"]

    def image(sample: Sample) -> np.ndarray:
        return np.asarray(cv2.imread(str(sample.path)))

    same = made.add("more:train", tested[0].label, image(tested[0]))
    smaller = made.add("faces:train", trained[1].label, cv2.resize(image(trained[1]), (45, 52)))
    other = {"female": "male", "male": "female"}
    lit = made.add("faces:train", other[trained[2].label], cv2.add(image(trained[2]), 30))
    faceless = made.add("faces:train", "female", np.full((60, 52, 3), GREEN, np.uint8))
    made.spoil(faceless, box=None)
    wrong = [*trained[10:16], *tested[10:13]]
    for sample in wrong:
        made.spoil(sample, label=other[sample.label])
    places = Places(home, home / "runs", home / "models")
    for name, samples in made.sets.items():
        write_csv(samples, places.runs / "data" / name / "annotated.csv")
    learned = (Source("more", "train"), Source("faces", "train", 2.0))
    wanted = replace(recipe.load(str(recipe_file)), train=learned)
    remember(wanted, places.runs / wanted.name)
    torch.manual_seed(0)
    network = build(wanted.architecture, wanted.arguments, wanted.grayscale)
    save_file(network.state_dict(), places.runs / wanted.name / WEIGHTS)
    return Cleaned(
        recipe=wanted,
        places=places,
        out=home / "out",
        report=clean(wanted, places, home / "out"),
        planted={
            "copy": {same.path: tested[0].path},
            "near copy": {smaller.path: trained[1].path, lit.path: trained[2].path},
            "no face": {faceless.path: None},
            "label": {
                **dict.fromkeys(s.path for s in wrong),
                lit.path: trained[2].path,
                trained[2].path: lit.path,
            },
        },
    )


@pytest.mark.parametrize("reason", ["copy", "near copy", "no face"])
def test_what_is_there_is_found_and_nothing_else(cleaned: Cleaned, reason: str) -> None:
    found = {r["picture"]: r["other"] for r in cleaned.rows(reason)}
    assert found == {str(k): str(v or "") for k, v in cleaned.planted[reason].items()}


def test_wrong_labels_are_found(cleaned: Cleaned) -> None:
    """Most of them and hardly another; copies that contradict each other name both."""
    rows = {r["picture"]: r for r in cleaned.rows("label")}
    planted = {str(k): str(v or "") for k, v in cleaned.planted["label"].items()}
    wrong = {k for k, other in planted.items() if not other}
    assert len(wrong & set(rows)) >= 0.6 * len(wrong)
    assert len(set(rows) - set(planted)) <= 2  # of 313, of which one shows no disc
    assert all(float(rows[k]["score"]) < 0.5 for k in wrong & set(rows))
    assert {k: r["other"] for k, r in rows.items() if r["other"]} == {
        k: other for k, other in planted.items() if other
    }


def test_an_interrupted_list_is_not_taken_for_a_shorter_one(
    cleaned: Cleaned, tmp_path: Path
) -> None:
    def interrupted() -> Iterator[Finding]:
        yield Finding(0, COPY, other=1)
        raise KeyboardInterrupt

    source, path = Source("faces", "train"), tmp_path / "new" / "findings.csv"
    pictures = Pictures({source: packed(source, cleaned.places)})
    trained = np.ones(len(pictures), bool)
    with pytest.raises(KeyboardInterrupt):
        write(pictures, interrupted(), trained, path)
    assert not list(path.parent.iterdir())
    write(pictures, [Finding(0, COPY, other=1)], trained, path)
    assert dropped(path, source) == {pictures.samples[0].name}


def test_only_training_pictures_are_dropped(cleaned: Cleaned) -> None:
    rows = [r for reason in cleaned.planted for r in cleaned.rows(reason)]
    assert all((r["drop"] == "1") == (r["split"] == "train") for r in rows)
    assert {r["split"] for r in cleaned.rows("label")} >= {"train", "test"}


def test_a_held_out_set_is_not_dropped_for_being_trained_on_too(
    cleaned: Cleaned, tmp_path: Path
) -> None:
    both = replace(cleaned.recipe, train=(*cleaned.recipe.train, *cleaned.recipe.test))
    clean(both, cleaned.places, tmp_path)
    assert not dropped(tmp_path / "findings.csv", Source("faces", "test"))


def test_the_list_is_in_order(cleaned: Cleaned) -> None:
    rows = list(csv.DictReader((cleaned.out / "findings.csv").read_text().splitlines()))
    reasons = list(cleaned.planted)
    keys = [(r["set"], r["split"], reasons.index(r["reason"]), float(r["score"])) for r in rows]
    assert keys == sorted(keys)


def test_the_report_counts(cleaned: Cleaned) -> None:
    rows = [[cell.strip() for cell in line.split("|")] for line in cleaned.report.splitlines()]
    lines = {row[1]: row[2:-1] for row in rows if len(row) > 1}
    assert lines["more:train"][:4] == ["41", "1", "0", "0"]
    assert lines["faces:train"][:4] == ["203", "0", "2", "1"]
    assert lines["faces:train, under 13"][0] == "55"
    assert {name for name in lines if "under" in name} == {"faces:train, under 13"}
    for share in lines["faces:train"][5:]:  # error and noise: seven of 203 labels are wrong
        assert 1 < float(share) < 8
    assert "tiny" in cleaned.report
    assert (cleaned.out / "report.md").read_text() == cleaned.report + "\n"
    noise = label_noise(cleaned.out)
    assert {name: f"{100 * share:.1f}" for name, share in noise.items()} == {
        name: row[-1] for name, row in lines.items() if ":" in name and name != "set:split"
    }
    assert label_noise(cleaned.out / "none") == {}


def test_contact_sheets_show_what_was_found(cleaned: Cleaned) -> None:
    assert {p.name for p in cleaned.out.glob("*.png")} == {
        "faces-train-dropped.png",
        "faces-val-reported.png",
        "faces-test-reported.png",
        "more-train-dropped.png",
    }
    sheet = cv2.imread(str(cleaned.out / "faces-train-dropped.png"))
    assert sheet.shape[1] == COLUMNS * SIDE
    (faceless,) = cleaned.planted["no face"]
    rows = [r for reason in cleaned.planted for r in cleaned.rows(reason)]
    times = sum(r["picture"] == str(faceless) for r in rows)
    green = (np.abs(sheet.astype(int) - GREEN) < 5).all(2).sum()
    assert green == pytest.approx(times * (SIDE - 4) ** 2 * 52 / 60, rel=0.02)  # shown whole


def test_a_recipe_leaves_out_what_is_dropped(cleaned: Cleaned) -> None:
    """Without packing anew; what is left is balanced by itself."""
    wanted = replace(cleaned.recipe, clean=str(cleaned.out / "findings.csv"))
    packs = [packed(s, cleaned.places) for s in wanted.train]
    made = [p.folder / "samples.sha256" for p in packs]
    before = [m.stat().st_mtime_ns for m in made]
    weights = weights_of(wanted, packs, None, cleaned.places.runs)
    assert [m.stat().st_mtime_ns for m in made] == before
    names = np.array([s.name for p in packs for s in p.samples])
    lost = set().union(*(dropped(cleaned.out / "findings.csv", s) for s in wanted.train))
    assert set(names[weights == 0]) == lost and len(lost) >= 10
    uncleaned = weights_of(cleaned.recipe, packs, None, cleaned.places.runs)
    np.testing.assert_array_equal(weights[weights > 0], uncleaned[weights > 0])


def test_a_list_that_does_not_fit_is_refused(cleaned: Cleaned, tmp_path: Path) -> None:
    packs = [packed(s, cleaned.places) for s in cleaned.recipe.train]
    wanted = replace(cleaned.recipe, clean="findings.csv")
    with pytest.raises(DataError, match=r"no such list .* export clean"):
        weights_of(wanted, packs, None, tmp_path)
    text = (cleaned.out / "findings.csv").read_text()
    (tmp_path / "findings.csv").write_text(text.replace("faces-", "others-"))
    with pytest.raises(DataError, match=r"pictures that it drops are not in faces"):
        weights_of(wanted, packs, None, tmp_path)
    (tmp_path / "findings.csv").write_text(text.replace("drop", "keep"))
    with pytest.raises(DataError, match="expected set, split"):
        weights_of(wanted, packs, None, tmp_path)


def test_nobody_answers_for_copies_of_what_they_saw() -> None:
    """Every picture comes twice, with labels that say nothing but that they are the same."""
    rng = np.random.default_rng(0)
    embeddings = np.repeat(np.eye(100), 2, 0)
    labels = np.repeat(rng.integers(0, 2, 100), 2)
    trained = np.ones(200, bool)
    cheated = cross_validated(embeddings, labels, trained, np.arange(200))
    honest = cross_validated(embeddings, labels, trained, np.repeat(np.arange(100), 2))
    assert (cheated.argmax(1) == labels).mean() > 0.8
    assert (honest.argmax(1) == labels).mean() < 0.65


def test_each_split_has_its_own_noise_and_one_label_has_none() -> None:
    labels = np.array([0, 0, 0, 1, 1, 1, 1, 1])
    male = np.array([0.1, 0.1, 0.99, 0.9, 0.9, 0.9, 0.01, 0.9])
    part = np.array([0, 0, 0, 0, 0, 0, 1, 1])
    found = list(find_wrong_labels(labels, np.stack([1 - male, male], 1), part, np.arange(8)))
    assert [(f.number, f.reason) for f in found] == [(2, "label")]
    assert found[0].score == pytest.approx(0.01)


def test_held_out_labels_teach_nothing() -> None:
    labels = np.tile([0, 1], 40)
    embeddings = labels[:, None] * 2.0 - 1
    trained = np.arange(80) < 40
    turned = np.where(trained, labels, 1 - labels)
    said = cross_validated(embeddings, turned, trained, np.arange(80))
    assert (said.argmax(1) == labels).all()


@pytest.mark.parametrize("labels", [np.zeros(20, int), np.arange(4) % 2], ids=["one label", "few"])
def test_too_little_to_learn_from(labels: np.ndarray) -> None:
    with pytest.raises(DataError, match="more pictures"):
        cross_validated(np.eye(len(labels)), labels, labels >= 0, np.arange(len(labels)))


def test_command_line(
    cleaned: Cleaned, recipe_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["clean", str(recipe_file), "--data", "none", "--runs", str(cleaned.places.runs)]
    assert main(argv) == 0
    assert "faces:test" in capsys.readouterr().out
    assert (cleaned.places.runs / "clean" / "findings.csv").is_file()
    assert main([*argv, "--teacher", "nobody"]) == 2
    assert "nobody: no finished run" in capsys.readouterr().err
