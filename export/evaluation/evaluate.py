"""What a model is worth on the test sets, through the runtime: evaluation.json, and its plots."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Optional

import numpy as np
from scipy.special import expit, logit
from tqdm import tqdm

from gender_edge import evaluation, measures
from gender_edge.classifier import Classifier
from gender_edge.evaluation import FRAMINGS
from gender_edge.samples import Sample
from gender_edge.zoo import EVALUATION

from .. import plots
from ..data.duplicates import Fingerprints, near_pairs
from ..data.findings import FOLDER, NOISE, label_noise
from ..data.packs import look
from ..data.prepare import Places, annotated, annotation, packed, stem
from ..files import fresh, write
from ..recipe import Recipe
from ..runs import keep_split
from . import parent, robustness


def evaluate_step(
    recipe: Recipe,
    model: Path,
    places: Places,
    *,
    shipped: bool,
    twin: Optional[Path] = None,
) -> Path:
    """evaluation.json, confusion.png and certainty.png beside a model: the test sets, through
    `Classifier`.

    Args:
        shipped: whether it is to be, and is measured under all framings, on bad pictures, and
            against those that it was made from; else under the recipe's first framing alone.
        twin: evaluation.json of the same weights before quantisation, noted beside the figures.
    """
    target = model.with_name(EVALUATION)
    inputs = [model, *(annotation(s.list, places) for s in recipe.test)]
    if (noise := _noise_folder(recipe, places) / NOISE).is_file():
        inputs.append(noise)
    if shipped:
        inputs += parent.evaluations(recipe, model, places.runs)
    if not fresh(target, *inputs):
        content = _content(recipe, model, places, shipped, twin)
        plots.confusion(content["sets"], model.with_name("confusion.png"))
        plots.certainty(content["sets"], model.with_name("certainty.png"))
        write(target, json.dumps(content, indent=1) + "\n")
    return target


def _content(
    recipe: Recipe, model: Path, places: Places, shipped: bool, twin: Optional[Path]
) -> dict[str, Any]:
    """What evaluation.json says; plain values."""
    framings = FRAMINGS if shipped else recipe.framings[:1]
    with Classifier(model, device="onnxruntime") as classifier:
        sets, tested = _tested(classifier, recipe, places, framings)
        content: dict[str, Any] = {
            "spec": asdict(classifier.spec),
            "backend": classifier.backend,
            "validation": {
                "sets": [f"{stem(s.list)}:{s.split}" for s in recipe.validate],
                "abstain_error": recipe.abstain_error,
            },
            "sets": sets,
        }
        if shipped:
            content["robustness"] = robustness.measure(classifier, tested)
    if twin is not None:
        before = json.loads(twin.read_text())
        content["twin"] = {
            "name": before["spec"]["name"],
            "sets": {name: s["balanced_accuracy"] for name, s in before["sets"].items()},
        }
    report = model.parent.with_suffix(".json")  # RUN/int8.json beside RUN/int8/
    if report.exists():
        content["quantization"] = json.loads(report.read_text())
    if shipped:
        content["against"] = parent.compared(recipe, model, places.runs)
    return content


def _tested(
    classifier: Classifier, recipe: Recipe, places: Places, framings: Sequence[str]
) -> tuple[dict[str, Any], list[list[Sample]]]:
    """Figures by test set, and the pictures of each, which the run folder notes as a split."""
    sets: dict[str, Any] = {}
    tested: list[list[Sample]] = []
    seen = [packed(s, places).fingerprints() for s in (*recipe.train, *recipe.validate)]
    noise = label_noise(_noise_folder(recipe, places))
    for part in recipe.test:
        samples = [s for s in annotated(part.list, places) if s.split == part.split]
        name = stem(part.list)
        outcome, sets[name] = _judged(classifier, samples, framings, name)
        tested.append(outcome.samples)
        keep_split(outcome.samples, places.runs / recipe.name, f"{name}-{part.split}")
        sets[name]["split"] = part.split
        sets[name]["copies"] = _without_copies(outcome, seen)
        if (own := f"{name}:{part.split}") in noise:
            sets[name]["label_noise"] = noise[own]
    return sets, tested


def _noise_folder(recipe: Recipe, places: Places) -> Path:
    """Where `python -m export clean` put what it estimated, if it was asked."""
    return (places.runs / recipe.clean).parent if recipe.clean else places.runs / FOLDER


def _judged(
    classifier: Classifier, samples: Sequence[Sample], framings: Sequence[str], name: str
) -> tuple[evaluation.Outcome, dict[str, Any]]:
    """A test set under the first framing, in full, and balanced accuracy under the others."""
    progress = partial(tqdm, desc=name, disable=None)
    outcome = evaluation.classify(classifier, samples, framing=framings[0], progress=progress)
    figures = evaluation.report(outcome)
    figures["ece_uncalibrated"] = _uncalibrated(outcome, classifier.spec.temperature)
    for framing in framings[1:]:
        other = evaluation.report(evaluation.classify(classifier, samples, framing=framing))
        figures[f"balanced_accuracy_{framing}"] = other["balanced_accuracy"]
    return outcome, figures


def _uncalibrated(outcome: evaluation.Outcome, temperature: float) -> dict[str, Any]:
    """The calibration error as it was before logits were divided by a temperature."""
    female = np.clip(outcome.female, 1e-7, 1 - 1e-7)
    before = expit(logit(female) * temperature)
    right = (before >= 0.5) == outcome.truth
    return measures.calibration_error(np.maximum(before, 1 - before), right)


def _without_copies(outcome: evaluation.Outcome, seen: list[Fingerprints]) -> dict[str, Any]:
    """How many pictures have a near-duplicate in training or validation, and accuracy without."""
    prints = look(outcome.samples)
    copies = np.zeros(len(prints), bool)
    for known in seen:
        copies[near_pairs(prints, known)[:, 0]] = True
    without = measures.balanced(outcome.right[~copies], outcome.truth[~copies])
    return {"count": int(copies.sum()), "balanced_accuracy_without": without}
