"""What the verbs of the command line do. They print; everything that they call returns."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

import cv2

from . import choose, doctor, engines, evaluation, faces, groups, pictures, zoo
from .classifier import Classifier
from .engine_info import EngineInfo
from .errors import ArgumentError, ImageError
from .faces.central import central_detector, located
from .labelled import read_labelled

NOTE = "apparent gender, by the binary labels of the training sets; not identity"


def _open(arguments: argparse.Namespace) -> Classifier:
    if arguments.threads is not None:
        cv2.setNumThreads(arguments.threads)  # which cuts faces, and runs some detectors
    return Classifier(
        arguments.model,
        device=arguments.device,
        threads=arguments.threads,
        batch_size=arguments.batch,
    )


def _detector(arguments: argparse.Namespace, kind: Callable[..., faces.Detector]) -> faces.Detector:
    return kind(arguments.detector, threads=arguments.threads)


def classify(arguments: argparse.Namespace) -> int:
    """One row per picture or face; 1 if some could not be read, 2 if none could."""
    paths = list(pictures.listed(arguments.inputs))
    failed: set[str] = set()
    answered: set[str] = set()
    with _open(arguments) as classifier:
        print(f"# {classifier!r}; {NOTE}", file=sys.stderr)
        for row in _rows(classifier, paths, arguments):
            (failed if isinstance(row.answer, ImageError) else answered).add(row.path)
            print(row.as_json() if arguments.json else row)
    if failed:
        print(
            f"gender-edge: {len(failed)} of {len(failed | answered)} pictures, or faces in them, "
            "could not be read",
            file=sys.stderr,
        )
    return int(bool(failed)) if answered else 2


def _rows(
    classifier: Classifier, paths: list[str], arguments: argparse.Namespace
) -> Iterator[pictures.Row]:
    if arguments.box is not None:
        if arguments.detector:
            raise ArgumentError("--box says where the face is; leave --detector out, or --box")
        return pictures.boxed(classifier, paths, arguments.box)
    if arguments.find or arguments.detector:
        detector = _detector(arguments, faces.picture_detector)
        print(f"# {detector!r}", file=sys.stderr)
        return pictures.found(classifier, paths, detector)
    print("# each picture is taken as one face crop; --find finds faces in them", file=sys.stderr)
    return pictures.crops(classifier, paths)


def models(arguments: argparse.Namespace) -> int:
    """What is shipped, what of it a budget allows, or what one model says of itself."""
    limits = (arguments.budget_ms, arguments.max_mb, arguments.min_accuracy)
    if limits != (None, None, None):
        if arguments.model:
            raise ArgumentError(
                f"a budget chooses a model; leave {arguments.model} out, or the budget"
            )
        return _choose(arguments, choose.Budget(*limits))
    if arguments.device != "auto" or arguments.threads is not None:
        raise ArgumentError(
            "--device and --threads are where a budget is timed; give one, or neither"
        )
    return _describe(arguments.model, arguments.json) if arguments.model else _list(arguments)


def _describe(model: str, as_json: bool) -> int:
    """A model's own metadata: whose pictures and weights it learned from, and their terms too."""
    content = zoo.read(model)
    text = engines.spec_of(content, model).to_json()
    found = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    found |= json.loads(text)
    if as_json:
        print(json.dumps(found))
        return 0
    for name, value in found.items():
        print(f"{name}: {json.dumps(value) if isinstance(value, (dict, list)) else value}")
    print(f"# {NOTE}", file=sys.stderr)
    return 0


def _choose(arguments: argparse.Namespace, budget: choose.Budget) -> int:
    """The one model and engine that a budget allows, on stdout; all of them on stderr."""
    found, left_out = choose.candidates(arguments.device, arguments.threads, budget)
    for c in found:
        print(f"# {c} ({'recorded' if c.recorded else 'measured now'})", file=sys.stderr)
    for reason in left_out:
        print(f"# left out: {reason}", file=sys.stderr)
    best = choose.pick(found, left_out, budget)
    print(json.dumps(asdict(best)) if arguments.json else f"{best.name}\t{best.engine}")
    return 0


def _list(arguments: argparse.Namespace) -> int:
    entries = [zoo.entry(name) for name in zoo.names()]
    if arguments.json:
        for e in entries:
            print(
                json.dumps({"name": e.name, "sha256": e.sha256, "bytes": e.bytes, **e.evaluation})
            )
        return 0
    width = max(len(e.name) for e in entries)
    print(
        f"{'model':{width}}      MB  input         MMACs  accuracy, %       worst group, %    "
        "worst adults, %  terms"
    )
    terms = list(dict.fromkeys(e.evaluation["spec"]["license"] for e in entries))
    usual = list(zoo.entry(zoo.default()).evaluation["sets"])
    for e in entries:
        spec, sets = e.evaluation["spec"], list(e.evaluation["sets"])
        seen = "grey" if spec["grayscale"] else "colour"
        side = f"{spec['input_size']}x{spec['input_size']} {seen}"
        marks = " (default)" if e.name == zoo.default() else ""
        marks += "" if sorted(sets) == sorted(usual) else f" (tested on {', '.join(sets)})"
        low, value, high = (100 * e.accuracy[key] for key in ("low", "value", "high"))
        group, adults = (_worst(e.evaluation["sets"], adults) for adults in (False, True))
        print(
            f"{e.name:{width}}  {e.bytes / 1e6:6.2f}  {side:12} {spec['macs'] / 1e6:6.0f}   "
            f"{value:.1f} ({low:.1f}-{high:.1f})  {group:16}  {adults:15}  "
            f"[{terms.index(spec['license']) + 1}]{marks}"
        )
    for number, text in enumerate(terms, start=1):
        print(f"[{number}] terms of the weights: {text}")
    print(
        f"accuracy: mean of balanced accuracy over {', '.join(usual)}, aligned faces, with "
        f"its 95 % interval, and of the group that it judges worst in any of them; {NOTE}"
    )
    return 0


def _worst(sets: Mapping[str, dict[str, Any]], adults: bool) -> str:
    worst = groups.worst_judged(sets, adults)
    if worst is None:
        return "-"
    return f"{100 * worst['balanced_accuracy']['value']:.1f} {worst['group']}"


def watch_cameras(arguments: argparse.Namespace) -> int:
    """To the end of all sources, or until Ctrl-C or SIGTERM; either way files are finished."""
    from . import watch  # here: what only cameras need

    try:
        with watch.terminable(), ExitStack() as stack:
            _follow(arguments, stack)
    except KeyboardInterrupt:  # how one stops watching
        pass
    return 0


def _follow(arguments: argparse.Namespace, stack: ExitStack) -> None:
    from . import saving, watch
    from .camera import Camera
    from .pipeline import Pipeline
    from .sources import shown

    files = saving.targets(arguments.record, arguments.sources) if arguments.record else []
    crops = saving.Crops(arguments.save_crops) if arguments.save_crops else None
    detector = _detector(arguments, faces.detector)
    classifier = stack.enter_context(_open(arguments))
    print(f"# {classifier!r}; {NOTE}", file=sys.stderr)
    print(f"# {detector!r}", file=sys.stderr)
    cameras = []
    for source in arguments.sources:
        cameras.append(Camera(source))
        stack.callback(cameras[-1].stop)  # if another one cannot be opened
    pipeline = stack.enter_context(
        Pipeline(
            cameras,
            classifier,
            detector,
            keep_frames=bool(files or crops),
        )
    )
    tally = watch.Tally(pipeline)
    if arguments.metrics is not None:
        _serve(tally.stats, arguments.metrics, stack)
    recorders = [saving.Recorder(f, c.fps) for f, c in zip(files, cameras)]
    for recorder, camera in zip(recorders, cameras):
        stack.callback(recorder.close)
        print(f"# SAVES PICTURES: {shown(camera.source)} to {recorder.path}", file=sys.stderr)
    if crops:
        print(f"# SAVES PICTURES: one crop per decided track to {crops.folder}", file=sys.stderr)
    stack.callback(watch.View(tally).close)
    for result in pipeline:
        decisions = tally.add(result)
        if arguments.json or arguments.every_frame:
            for line in watch.lines(result, result.faces if arguments.every_frame else decisions):
                print(line, flush=True)
        if recorders:
            recorders[result.camera].add(result)
        if crops:
            for face in decisions:
                crops.add(result, face)


def _serve(
    stats: Callable[[], list[dict[str, Any]]], address: tuple[str, int], stack: ExitStack
) -> None:
    from .metrics import LOOPBACK, Metrics

    host, port = address
    metrics = Metrics(stats, port, host or LOOPBACK)
    stack.callback(metrics.close)
    print(f"# metrics: {metrics.url}", file=sys.stderr)


def build(arguments: argparse.Namespace) -> int:
    """A TensorRT engine."""
    print(f"building {arguments.model}: minutes, if it is not there yet", file=sys.stderr)
    path = engines.build_engine(
        arguments.model,
        arguments.output,
        max_batch=arguments.max_batch,
        portable=arguments.portable,
        targets=tuple(arguments.target),
        precision="fp16" if arguments.fp16 else None,
        progress=_phase,
    )
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)
    info = EngineInfo.read(path)
    print(
        f"{path}\t{path.stat().st_size / 1e6:.2f} MB\t{' '.join(info.tensorrt)}\tfor {info.place}"
    )
    if arguments.fp16 and not arguments.output:
        print(
            f"# Classifier({arguments.model!r}) opens an engine of the model's own precision: open "
            "this one by its path",
            file=sys.stderr,
        )
    return 0


def _phase(name: str, step: int, steps: int) -> None:
    """One line that changes on a terminal; elsewhere one line per step."""
    if sys.stderr.isatty():
        print(f"\r\033[K{name} {step}/{steps}", end="", file=sys.stderr, flush=True)
    else:
        print(f"{name} {step}/{steps}", file=sys.stderr, flush=True)


def deploy_to(arguments: argparse.Namespace) -> int:
    """What another server, or a browser, needs to run a model: the paths of its files."""
    from . import deploy, deploy_browser  # here: what only this needs

    model = arguments.model or zoo.default()
    if arguments.server == "browser":
        home = deploy_browser.browser(model, arguments.folder, runtime=arguments.runtime)
        if lack := deploy_browser.missing_runtime(home):
            print(f"# {lack}", file=sys.stderr)
    elif arguments.runtime:
        raise ArgumentError("--runtime is for `deploy browser`; leave it out")
    else:
        write = {"deepstream": deploy.deepstream, "triton": deploy.triton}[arguments.server]
        home = write(model, arguments.folder)
    for path in sorted(p for p in home.rglob("*") if p.is_file()):
        print(path)
    return 0


def diagnose(arguments: argparse.Namespace) -> int:
    """What is installed here, and what a classifier would run on."""
    found = doctor.examine()
    if arguments.json:
        print(json.dumps(found))
        return 0
    for name, value in found.items():
        if isinstance(value, (list, dict)):
            rows = [f"{k}: {v}" for k, v in value.items()] if isinstance(value, dict) else value
            print(f"{name}:", *(rows or ["none"]), sep="\n  ")
        else:
            print(f"{name}: {value}")
    return 0


def evaluate(arguments: argparse.Namespace) -> int:
    """Accuracy by group on a labelled set; 1 if some pictures could not be read."""
    samples = read_labelled(arguments.data, arguments.split)
    if arguments.detector:
        detector = central_detector(arguments.detector)
        samples = [located(samples[n], detector) for n in _counted(range(len(samples)))]
    with _open(arguments) as classifier:
        outcome = evaluation.classify(
            classifier, samples, framing=arguments.crop, progress=_counted
        )
        about = repr(classifier)
    figures = evaluation.report(outcome)
    if arguments.json:
        print(json.dumps({"classifier": about, "data": arguments.data, **figures}))
    else:
        print(f"# {about}; {NOTE}")
        print(format_report(figures))
    for name, reason in outcome.failures:
        print(f"gender-edge: {name}: {reason}", file=sys.stderr)
    return int(bool(outcome.failures))


def _counted(steps: Iterable[int]) -> Iterator[int]:
    """Say on a terminal how far it is; nothing where stderr is a file."""
    steps = list(steps)
    for number, step in enumerate(steps):
        if sys.stderr.isatty():
            print(f"\r{100 * number // len(steps)} %", end="", file=sys.stderr, flush=True)
        yield step
    if sys.stderr.isatty():
        print("\r", end="", file=sys.stderr)


def format_report(figures: dict[str, Any]) -> str:
    """An evaluation for people: one line per group, per cent with 95 % intervals."""
    lines = [f"{'':24} {'faces':>6}  {'balanced':>20}  {'women right':>20}  {'men right':>20}"]
    for row in [{"group": "all", **figures}, *figures["groups"]]:
        cells = [_share(row[key]) for key in ("balanced_accuracy", "female_right", "male_right")]
        lines.append(f"{row['group']:24} {row['faces']:6}  " + "  ".join(f"{c:>20}" for c in cells))
    lines.append(f"faces cut: {evaluation.framed_text(figures['framed'])}")
    decided = _share(figures["accuracy_decided"])
    lines.append(
        f"calibration error {_share(figures['ece'])} points; a label given for "
        f"{100 * figures['coverage']:.1f} % of faces, right in {decided}"
    )
    return "\n".join(lines)


def _share(figure: dict[str, Any]) -> str:
    if figure["value"] is None:
        return "none"
    return f"{100 * figure['value']:.1f} ({100 * figure['low']:.1f}-{100 * figure['high']:.1f})"
