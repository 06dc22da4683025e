"""The whole path of one recipe: data, train, onnx, quantize, calibrate, evaluate, card, ship.

Each step is a function from files to files. A step whose output is newer than its inputs is
skipped, so an interrupted build goes on where it stopped.

    RUN/weights.safetensors   RUN/fp32.onnx   RUN/int8.onnx        RUN/fp32/, RUN/int8/ as shipped
"""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Optional

import numpy as np

from gender_edge.evaluation import FRAMINGS
from gender_edge.samples import LABELS
from gender_edge.spec import CropRule, ModelSpec
from gender_edge.zoo import CARD, EVALUATION, MODEL

from . import graph
from .architectures import Network, in_colour, network_for
from .compression import int8
from .compression.quantize import METHODS
from .data.packs import even_crops
from .data.prepare import Places, annotation, check, learned_from, stem, validated_on
from .evaluation import card, parent
from .evaluation.calibrate import abstention_thresholds, even, fit_temperature
from .evaluation.evaluate import evaluate_step
from .files import fresh, write
from .recipe import Recipe
from .restore import restore
from .runs import CONFIG, INITIAL, WEIGHTS, finished, restored
from .ship import ship
from .training.train import train
from .validate import by_file, predict, targets

logger = logging.getLogger(__name__)

AWARE_RATE = 0.1  # of the recipe's learning rate: weights are to move by steps of the INT8 grid


def build(recipe: Recipe, places: Places, workers: int = 1) -> list[str]:
    """Run all steps; returns the names of the shipped models.

    Raises:
        DataError: data, or what the recipe starts from, are not as they have to be.
    """
    check(recipe, places, workers)
    parent.check(recipe, places.runs)
    run = places.runs / recipe.name
    network = train_step(recipe, places, workers)
    if recipe.protocol:
        reference_step(recipe, network, places)
    if not recipe.precisions:  # others start from it, or are taught by it, or compare with it
        return []
    exported = graph.of_run(run)
    quantized = quantize_step(recipe, exported, places, workers)
    twin = model_step(recipe, network, exported, places)
    model_step(recipe, network, quantized, places, twin)
    return [
        ship(run / precision, places.models, default=recipe.default == precision)
        for precision in recipe.precisions
    ]


def requantize(recipe: Recipe, places: Places, workers: int = 1) -> str:
    """INT8 anew, and its calibration, figures and card, of a finished run or, where there is none,
    of what is shipped: nothing is trained, and an FP32 file that is shipped stays what it is.

    Raises:
        DataError: nothing of the recipe is there, or data are not as they have to be.
    """
    recipe = replace(recipe, precisions=("int8",), aware_epochs=0)
    check(recipe, places, workers)
    run = places.runs / recipe.name
    if not run.exists():
        restore(recipe, places, workers)
    network, exact = finished(run), run / "fp32" / MODEL
    parent.check(recipe, places.runs)
    exported = run / "fp32.onnx"
    if restored(run) and exact.exists() and not exported.exists():
        shutil.copyfile(exact, exported)
    exported = graph.of_run(run)
    (run / "int8.onnx").unlink(missing_ok=True)  # anew, whatever it was made from
    quantized = quantize_step(recipe, exported, places, workers)
    twin = exact.with_name(EVALUATION)
    if not twin.exists():
        twin = model_step(recipe, network, exported, places)
    model = model_step(recipe, network, quantized, places, twin).parent
    return ship(model, places.models, default=recipe.default == "int8")


def model_step(
    recipe: Recipe, network: Network, file: Path, places: Places, twin: Optional[Path] = None
) -> Path:
    """RUN/PRECISION/ from RUN/PRECISION.onnx: the model with its spec, its evaluation, which is
    returned, and its card. What is not shipped is there to say what quantisation cost: it gets no
    calibration and no card.

    Args:
        twin: evaluation.json of the same weights before quantisation.
    """
    precision, model = file.stem, file.with_suffix("") / MODEL
    shipped = precision in recipe.precisions
    if not fresh(model, file, file.with_name(CONFIG), *_judges(recipe, places)):
        spec = describe(recipe, network, precision)
        spec = calibrated(recipe, file, spec, places) if shipped else spec
        graph.write_spec(file, spec, model)
    report = evaluate_step(recipe, model, places, shipped=shipped, twin=twin)
    if shipped:
        write(model.with_name(CARD), card.text(model.parent))
    return report


def train_step(recipe: Recipe, places: Places, workers: int) -> Network:
    """Data and weights; see `export.training.train` for what lies in the run folder."""
    network_for(recipe)  # an error now, not later
    packs, validation = learned_from(recipe, places, workers)
    run = places.runs / recipe.name
    return train(recipe, packs, validation, run, places.trunks, workers)


def quantize_step(recipe: Recipe, source: Path, places: Places, workers: int = 1) -> Path:
    """RUN/int8.onnx, its ranges estimated on training crops, and int8.json: what that cost.

    Where that is more than the recipe's gate, the network is taught on with rounding, and what
    comes of it is kept if it loses less.
    """
    target = source.with_name("int8.onnx")
    if not fresh(target, source, source.with_name(CONFIG), *_judges(recipe, places)):
        packs, validation = learned_from(recipe, places)
        crops = even_crops(packs, recipe.calibration_images, recipe.input_size, recipe.seed)
        methods = tuple(METHODS) if recipe.calibration == "best" else (recipe.calibration,)
        # int8.onnx is new only when the choice is made.
        best, other = target.with_name("ptq.onnx"), target.with_name("aware.onnx")
        report = int8.choose(source, crops, validation, methods, best)
        if (lost := int8.worst(report)) > recipe.gate and recipe.aware_epochs:
            logger.warning("%s: INT8 loses %g points, taught on", target, lost)
            taught = aware_step(recipe, places, workers)
            aware = int8.choose(taught, crops, validation, methods, other, source)
            if int8.worst(aware) < lost:
                before = {"epochs": recipe.aware_epochs, "lost": lost}
                report, best, other = {**aware, "aware": before}, other, best
        write(target.with_suffix(".json"), json.dumps(report, indent=1) + "\n")
        other.unlink(missing_ok=True)
        best.replace(target)  # last: where it is, its report is
        if (lost := int8.worst(report)) > recipe.gate:
            logger.warning("%s loses %g points on a set or group", target, lost)
    return target


def _judges(recipe: Recipe, places: Places) -> list[Path]:
    """The lists by which ranges, temperature and thresholds are chosen."""
    return [annotation(s.list, places) for s in recipe.validate]


def aware_step(recipe: Recipe, places: Places, workers: int = 1) -> Path:
    """RUN_aware/fp32.onnx: the finished network of a recipe, taught on with INT8's rounding.

    What was taught on from earlier weights of that recipe is removed.
    """
    own = replace(
        recipe,
        name=f"{recipe.name}_aware",
        init=f"run:{recipe.name}",
        remove_macs=0.0,
        rounding=True,
        sizes=(recipe.input_size,) * recipe.aware_epochs,
        learning_rate=AWARE_RATE * recipe.learning_rate,
    )
    run = places.runs / own.name
    if run.exists() and not fresh(run / INITIAL, places.runs / recipe.name / WEIGHTS):
        shutil.rmtree(run)
    train_step(own, places, workers)
    return graph.of_run(run)


def describe(recipe: Recipe, network: Network, precision: str) -> ModelSpec:
    """The spec of a file that is yet to be calibrated."""
    parameters, macs = graph.cost(in_colour(network), recipe.input_size)
    return ModelSpec(
        name=f"{recipe.name}_{precision}",
        labels=(LABELS[0], LABELS[1]),
        input_size=recipe.input_size,
        precision=precision,
        grayscale=recipe.grayscale,
        crop=CropRule(),
        parameters=parameters,
        macs=macs,
        trained_on=tuple(f"{stem(s.list)}:{s.split}" for s in recipe.train),
        origin=recipe.origin,
        license=recipe.license,
        revision=graph.revision(),
    )


def calibrated(recipe: Recipe, source: Path, spec: ModelSpec, places: Places) -> ModelSpec:
    """The spec with temperature and thresholds fitted on validation; each set and framing counts
    the same.
    """
    answer, logits, truth = by_file(source), [], []
    for pack in validated_on(recipe, places).values():
        for framing in FRAMINGS:
            logits.append(predict(answer, pack, recipe.input_size, framing))
            truth.append(targets(pack.samples))
    answers = np.concatenate(logits), np.concatenate(truth), even([len(t) for t in truth])
    temperature = fit_temperature(*answers)
    limits = abstention_thresholds(*answers, temperature, recipe.abstain_error)
    return replace(spec, temperature=temperature, abstain_below=limits)


def reference_step(recipe: Recipe, network: Network, places: Places) -> Path:
    """RUN/fp32/: a reference system and its figures, for `export.compare`; nothing is shipped."""
    run = places.runs / recipe.name
    exported, model = graph.of_run(run), run / "fp32" / MODEL
    if not fresh(model, exported, run / CONFIG):
        graph.write_spec(exported, describe(recipe, network, "fp32"), model)
    return evaluate_step(recipe, model, places, shipped=False)
