"""`python -m export build NAME`: from labelled photographs to a shipped model.

`python -m export build --data FACES`: the same for one labelled folder or list of your own.
`python -m export compare`: the reference systems of the field beside what is shipped.
`python -m export detector`: the face detector.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Optional

import cv2
import torch

from gender_edge.errors import DataError, GenderEdgeError

from . import compare, graph, options, own, recipe, seeds, sizes
from .architectures.trunks import Trunks
from .build import build, quantize_step, requantize, train_step
from .clean import clean
from .compression.prune import compared
from .data import findings
from .data.prepare import Places, learned_from, validated_on
from .detector import card as detector_card
from .detector import steps
from .detector.train import Settings
from .evaluation.int8_card import quantization
from .files import write
from .options import ROOT
from .recipe import start_of
from .restore import restore
from .runs import restored
from .training import shipped


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run a command line; returns the exit status: 0 done, 2 nothing could be done."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    cv2.setNumThreads(1)  # crops are small; the cores are for training
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    try:
        return int(arguments.call(arguments))
    except GenderEdgeError as error:
        print(f"export: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m export", description=__doc__)
    parser.set_defaults(**options.UNTOLD)
    verbs = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, call, add_options, text in (
        ("build", _build, options.build, "all steps of one recipe, resuming what was interrupted"),
        ("train", _train, options.train, "only the training, for a machine that does nothing else"),
        ("quantize", _quantize, options.train, "training and INT8: what each method, layer costs"),
        ("requantize", _requantize, options.ship, "INT8 anew of what was trained or is shipped"),
        ("prune", _prune, options.prune, "what pruning leaves by either importance"),
        ("sizes", _sizes, options.try_sizes, "a run on other sizes of input: cost, validation"),
        ("restore", _restore, options.ship, "the run folder of a recipe from what is shipped"),
        ("clean", _clean, options.clean, "list copies, missing faces and doubtful labels"),
        ("compare", _compare, options.compare, "reference systems beside what is shipped"),
        ("seeds", _seeds, options.seeds, "validation of recipes trained with --seed: mean, range"),
        ("detector", _detector, options.detector, "the face detector, to what is shipped"),
    ):
        verb = verbs.add_parser(name, help=text)
        add_options(verb)
        verb.set_defaults(call=call)
    return parser


def _build(arguments: argparse.Namespace) -> int:
    if arguments.models is None:
        arguments.models = ROOT / "models" if arguments.name else own.MODELS
    wanted, places = _wanted(arguments)
    for name in build(wanted, places, arguments.workers):
        print(f"shipped {places.models / name}")
        print(own.summary(places.models / name))
    return 0


def _train(arguments: argparse.Namespace) -> int:
    wanted, places = _wanted(arguments)
    train_step(wanted, places, arguments.workers)
    print(f"trained {places.runs / wanted.name}")
    return 0


def _quantize(arguments: argparse.Namespace) -> int:
    wanted, places = _wanted(arguments)
    run = places.runs / wanted.name
    if not restored(run):
        train_step(wanted, places, arguments.workers)
    target = quantize_step(wanted, graph.of_run(run), places, arguments.workers)
    print(quantization(json.loads(target.with_suffix(".json").read_text())))
    return 0


def _requantize(arguments: argparse.Namespace) -> int:
    wanted, places = recipe.load(arguments.name), _places(arguments)
    name = requantize(wanted, places, arguments.workers)
    print(f"shipped {places.models / name}")
    print(own.summary(places.models / name))
    return 0


def _prune(arguments: argparse.Namespace) -> int:
    wanted, places = _wanted(arguments)
    pictures = learned_from(wanted, places, arguments.workers)
    print(compared(wanted, *pictures, places.runs, places.trunks, arguments.workers))
    return 0


def _sizes(arguments: argparse.Namespace) -> int:
    wanted = recipe.load(arguments.name)
    places = _places(arguments)
    validation = validated_on(wanted, places, arguments.workers)
    print(sizes.table(places.runs / wanted.name, validation, wanted.framings, arguments.sizes))
    return 0


def _compare(arguments: argparse.Namespace) -> int:
    kept = arguments.out and arguments.out.with_suffix(".json")
    before = compare.earlier_rows(kept) if kept else []
    result = compare.compare(compare.references(), arguments.runs, arguments.models, before)
    if kept is None:
        print(compare.markdown(result), end="")
    else:
        write(arguments.out, compare.markdown(result))
        write(kept, json.dumps(result, indent=1) + "\n")
        print(f"wrote {arguments.out} and {kept}")
    return 0


def _seeds(arguments: argparse.Namespace) -> int:
    print(seeds.table(arguments.names, arguments.runs))
    return 0


def _restore(arguments: argparse.Namespace) -> int:
    wanted = recipe.load(arguments.name)
    places = _places(arguments)
    print(f"restored {restore(wanted, places, arguments.workers)}")
    return 0


def _clean(arguments: argparse.Namespace) -> int:
    wanted = recipe.load(arguments.name)
    out = arguments.out or arguments.runs / findings.FOLDER
    places = _places(arguments)
    print(clean(wanted, places, out, arguments.teacher, arguments.workers))
    print(f"listed in {out / findings.NAME}")
    return 0


def _detector(arguments: argparse.Namespace) -> int:
    places = Places(arguments.data, arguments.runs, arguments.models, detector=arguments.yunet)
    settings = Settings(
        steps=arguments.steps,
        batch_size=arguments.batch,
        learning_rate=arguments.rate,
        init=arguments.init,
    )
    model = steps.build(places, settings, arguments.workers)
    print(f"made {model}")
    if arguments.evaluate:
        steps.evaluate_step(model, places)
        print(detector_card.text(model.parent))
    if arguments.latency:
        for name, row in steps.latency(model, places, arguments.threads).items():
            print(f"{name}: {row['ms']:.2f} ms a frame of 640 x 480, {row['times']:.2f} times")
    if arguments.ship:
        print(f"shipped {arguments.models / steps.ship_step(model, arguments.models)}")
    return 0


def _places(arguments: argparse.Namespace) -> Places:
    return Places(
        data=arguments.data,
        runs=arguments.runs,
        models=arguments.models,
        detector=arguments.detector,
        whole=arguments.whole,
    )


def _wanted(arguments: argparse.Namespace) -> tuple[recipe.Recipe, Places]:
    wanted, vgg16, imagenet = recipe.load(arguments.name or own.RECIPE), None, None
    if arguments.called:
        wanted = replace(wanted, name=arguments.called)
    if arguments.epochs is not None:
        if not 1 <= arguments.epochs <= wanted.epochs:
            raise DataError(f"--epochs {arguments.epochs}: expected 1 to {wanted.epochs}")
        wanted = replace(wanted, sizes=wanted.sizes[: arguments.epochs])
    if arguments.seed is not None:
        wanted = seeds.seeded(wanted, arguments.seed)
    kind, file = start_of(arguments.init or "")
    if kind == "imagenet":
        imagenet = Path(file) if file else None
        if wanted.start[0] != "pruned":  # that starts from a network, whatever its start
            wanted = replace(wanted, init="imagenet")
    elif kind == "run":
        wanted = replace(wanted, init=arguments.init)
    elif kind == "shipped":
        wanted = shipped.going_on(wanted, file)
    elif arguments.init:
        vgg16 = Path(arguments.init)
    trunks = Trunks(vgg16, arguments.face_init, arguments.age_trunk or vgg16, imagenet)
    places = replace(_places(arguments), trunks=trunks)
    return (wanted, places) if arguments.name else own.fitted(wanted, places, arguments.workers)


if __name__ == "__main__":
    raise SystemExit(main())
