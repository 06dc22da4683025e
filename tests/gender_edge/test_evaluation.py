from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from gender_edge import ArgumentError, Classifier, DataError, evaluation, zoo
from gender_edge.samples import Sample
from tests.conftest import labelled


def test_what_faces_were_cut_by_is_counted() -> None:
    points = tuple((float(i), i + 0.5) for i in range(5))
    box = (1.0, 2.0, 3.0, 4.0)
    samples = [Sample(Path("x"), "male", box=box, landmarks=points)]
    samples += [Sample(Path("x"), "male", box=box)] * 2 + [Sample(Path("x"), "male")] * 3
    found = [list(evaluation.framed(samples, f).values()) for f in evaluation.FRAMINGS]
    assert found == [[1, 2, 3], [0, 3, 3], [0, 0, 6]]
    outcome = evaluation.Outcome(samples, np.full(6, 0.1), np.ones(6, bool), [], "box")
    counts = evaluation.report(outcome)["framed"]
    assert evaluation.framed_text(counts) == "3 by their boxes, 3 as whole pictures"


def test_report_of_known_answers() -> None:
    female = np.array([0.9, 0.2, 0.1, 0.7] * 30)
    ages = [2, 30, 30, 70] * 30
    labels = ["female", "female", "male", "male"] * 30
    samples = [Sample(Path("x"), label, age=a, ethnicity="Asian") for label, a in zip(labels, ages)]
    figures = evaluation.report(
        evaluation.Outcome(samples, female, np.array([True, False] * 60), [("bad", "why")])
    )
    assert figures["confusion"] == [[30, 30], [30, 30]]
    assert figures["accuracy"]["value"] == 0.5
    assert figures["coverage"] == 0.5
    assert figures["accuracy_decided"]["value"] == 1.0
    assert figures["failures"] == 1
    loss = -np.log([0.9, 0.2, 0.9, 0.3]).mean()
    assert figures["loss"]["value"] == pytest.approx(loss)
    assert figures["loss"]["low"] < loss < figures["loss"]["high"]
    groups = {g["group"]: g for g in figures["groups"]}
    ages_seen = {"age 0 to 3", "age 20 to 39", "age 60+", "under 13"}
    assert set(groups) == {*ages_seen, "ethnicity Asian", "adults, Asian"}
    assert groups["under 13"]["faces"] == 30 and groups["adults, Asian"]["faces"] == 90
    assert groups["age 0 to 3"]["female_right"]["value"] == 1.0
    assert groups["age 0 to 3"]["male_right"]["value"] is None


def test_the_gap_between_adults() -> None:
    """Half of the women of one ethnicity are taken for men; a third has too few faces to count."""
    samples, female = [], []
    for word, count, share in (("Asian", 60, 0.5), ("Black", 60, 1.0), ("White", 30, 0.0)):
        for number in range(count):
            samples += [Sample(Path("x"), "female", age=30, ethnicity=word)]
            samples += [Sample(Path("x"), "male", age=30, ethnicity=word)]
            female += [0.9 if number < share * count else 0.1, 0.1]
    outcome = evaluation.Outcome(samples, np.array(female), np.ones(len(female), bool), [])
    gap = evaluation.report(outcome)["adult_gap"]
    assert gap["gap"] == pytest.approx(0.5) and gap["worst"] == "female adults, Asian"
    few = evaluation.Outcome(samples[:90], np.array(female[:90]), np.ones(90, bool), [])
    assert evaluation.report(few)["adult_gap"] is None


def test_bad_pictures_cost_their_row(
    classifier: Classifier, face: np.ndarray, tmp_path: Path
) -> None:
    samples = []
    for number in range(5):
        path = tmp_path / f"{number}.png"
        path.write_bytes(b"junk" if number == 2 else cv2.imencode(".png", face)[1].tobytes())
        samples.append(Sample(path, "female"))
    outcome = evaluation.classify(classifier, samples)
    assert len(outcome.samples) == len(outcome.female) == 4
    assert [Path(name).name for name, _ in outcome.failures] == ["2.png"]
    with pytest.raises(DataError, match="none of 1"):
        evaluation.classify(classifier, samples[2:3])
    with pytest.raises(ArgumentError, match="framing='square'"):
        evaluation.classify(classifier, samples, framing="square")


@pytest.mark.parametrize("name", ["celeba_test", "lfw", "utkface", "allagefaces"])
def test_shipped_models_are_as_right_as_recorded(shipped: str, name: str) -> None:
    """300 whole pictures of each test set: the record must lie within what 300 can tell."""
    recorded = zoo.entry(shipped).evaluation["sets"][name]
    samples = [s for s in labelled(name) if s.split == recorded["split"]]
    chosen = []
    for label in ("female", "male"):
        members = [s for s in samples if s.label == label]
        chosen += members[:: len(members) // 150][:150]
    with Classifier(shipped) as classifier:
        outcome = evaluation.classify(classifier, chosen, framing="whole")
    found = evaluation.report(outcome)["balanced_accuracy"]
    expected = recorded["balanced_accuracy_whole"]["value"]
    assert found["low"] - 0.01 <= expected <= found["high"] + 0.01


def test_int8_answers_like_its_twin() -> None:
    """On real faces: 98.5 % of decisions and, on average, probabilities within 0.02."""
    samples = labelled("celeba_test")[:400]
    twins = [n for n in zoo.names() if n.endswith("_int8") and n[:-4] + "fp32" in zoo.names()]
    assert twins
    for name in twins:
        female = []
        for precision in ("int8", "fp32"):
            with Classifier(name[:-4] + precision) as classifier:
                female.append(evaluation.classify(classifier, samples, framing="whole").female)
        assert ((female[0] >= 0.5) == (female[1] >= 0.5)).mean() >= 0.985
        assert np.abs(female[0] - female[1]).mean() < 0.02
