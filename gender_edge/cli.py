"""The command line, `gender-edge`. It prints; everything that it calls returns."""

from __future__ import annotations

import argparse
import glob
import io
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, Optional

from . import __version__, choose, doctor, engines, evaluation, zoo
from .classifier import DEFAULT_BATCH, Classifier, Prediction
from .engine_info import EngineInfo
from .errors import DataError, GenderEdgeError, ImageError
from .labelled import IMAGE_SUFFIXES, is_image, list_images, read_labelled

NOTE = "apparent gender, by the binary labels of the training sets; not identity"


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run a command line; returns the exit status.

    0: done. 1: some pictures could not be read (each has its row). 2: nothing could be done.
    """
    arguments = _parser().parse_args(argv)
    for stream in (sys.stdout, sys.stderr):  # a file name need not be valid text
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        status: int = arguments.run(arguments)
        sys.stdout.flush()  # what cannot be written fails here, and not at exit
    except GenderEdgeError as error:
        print(f"gender-edge: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader (head, less) has gone; that is its good right
        _mute()
        return 0
    except OSError as error:
        print(f"gender-edge: {error}", file=sys.stderr)
        _mute()
        return 2
    return status


def _mute() -> None:
    """What is still in a buffer goes nowhere; Python would try again at exit, and complain."""
    for stream in (sys.stdout, sys.stderr):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gender-edge", description=f"Classify faces: {NOTE}.")
    parser.add_argument("--version", action="version", version=__version__)
    verbs = parser.add_subparsers(required=True, metavar="COMMAND")

    verb = verbs.add_parser("classify", help="face crops to labels, a row a face")
    verb.add_argument("inputs", nargs="+", metavar="INPUT", help="picture, folder or glob")
    verb.add_argument("--json", action="store_true", help="a JSON object a line")
    verb.add_argument(
        "--box",
        type=_box,
        metavar="X,Y,W,H",
        help="where the face is, in pixels; without it a picture is taken as a face crop",
    )
    _engine_options(verb)
    verb.set_defaults(run=_classify)

    verb = verbs.add_parser("models", help="what is shipped, and which to take under a budget")
    verb.add_argument("--json", action="store_true", help="a JSON object a line")
    verb.add_argument("--budget-ms", type=float, help="most milliseconds for one face")
    verb.add_argument("--max-mb", type=float, help="largest file")
    verb.add_argument("--min-accuracy", type=_percent, metavar="PERCENT", help="as 95")
    verb.add_argument("--device", default="auto", help="for --budget-ms; as for classify")
    verb.add_argument("--threads", type=_positive, help="CPU threads (default: all)")
    verb.set_defaults(run=_models)

    verb = verbs.add_parser("watch", help="cameras: faces found, followed, classified")
    verb.add_argument("sources", nargs="+", metavar="SOURCE", help="device, file, address")
    verb.add_argument(
        "--detector", metavar="FILE", help="YuNet ONNX file (default: ours, or CenterFace)"
    )
    verb.add_argument(
        "--json",
        action="store_true",
        help="a JSON object a decision: when a track has become sure, or has changed its label",
    )
    verb.add_argument(
        "--every-frame", action="store_true", help="a JSON object a face and frame instead"
    )
    verb.add_argument(
        "--metrics",
        type=_address,
        metavar="[HOST:]PORT",
        help="Prometheus, on loopback unless a host is named",
    )
    verb.add_argument(
        "--record",
        type=Path,
        metavar="FILE.mp4",
        help="SAVES PICTURES: a video of what is seen (of several cameras one each, FILE-N.mp4)",
    )
    verb.add_argument(
        "--save-crops",
        type=Path,
        metavar="FOLDER",
        help="SAVES PICTURES: a crop of each track that is decided",
    )
    _engine_options(verb)
    verb.set_defaults(run=_watch)

    verb = verbs.add_parser("build", help="a TensorRT engine from a model")
    verb.add_argument("model", help="shipped name or ONNX file")
    verb.add_argument("--output", metavar="FILE", help="default: the cache of this user")
    verb.add_argument("--max-batch", type=_positive, default=DEFAULT_BATCH)
    verb.add_argument("--portable", action="store_true", help="for other GPUs too, slower")
    verb.add_argument("--fp16", action="store_true", help="compute an FP32 model in FP16")
    verb.add_argument(
        "--target",
        action="append",
        default=[],
        metavar="8.6",
        help="compute capability to build for without a GPU (TensorRT-RTX); repeatable",
    )
    verb.set_defaults(run=_build)

    verb = verbs.add_parser("deploy", help="files for NVIDIA's DeepStream or Triton")
    verb.add_argument("server", choices=("deepstream", "triton"))
    verb.add_argument("folder", type=Path, metavar="OUT")
    verb.add_argument("--model", help="shipped name or file (default: the shipped default)")
    verb.set_defaults(run=_deploy)

    verb = verbs.add_parser("doctor", help="what is installed, and what would be used")
    verb.add_argument("--json", action="store_true", help="as one JSON object")
    verb.set_defaults(run=_doctor)

    verb = verbs.add_parser("evaluate", help="accuracy on labelled faces, by group")
    verb.add_argument("data", help="labelled folder, or CSV with columns path,label")
    verb.add_argument("--split", help="only this split of the data")
    verb.add_argument(
        "--crop",
        choices=evaluation.FRAMINGS,
        default=evaluation.FRAMINGS[0],
        help="what to cut faces by, where a list has it (default: the best it has)",
    )
    verb.add_argument("--json", action="store_true", help="everything as one JSON object")
    _engine_options(verb)
    verb.set_defaults(run=_evaluate)
    return parser


def _engine_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", help="shipped name or file (default: the shipped default)")
    choice = "auto, cpu, onnxruntime, openvino, cuda or tensorrt"
    parser.add_argument("--device", default="auto", help=choice)
    parser.add_argument("--threads", type=_positive, help="CPU threads (default: all)")
    parser.add_argument("--batch", type=_positive, default=DEFAULT_BATCH, help="faces run at once")


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number from 1")
    return int(text)


def _percent(text: str) -> float:
    """As a share. Below 1 it was probably meant as one already."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 1 <= value <= 100:
        raise argparse.ArgumentTypeError(f"{text!r}: expected per cent from 1 to 100, as 95")
    return value / 100


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not port.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r}: expected PORT or HOST:PORT, as 9100")
    return host.strip("[]"), int(port)


def _box(text: str) -> list[float]:
    try:
        values = [float(v) for v in text.split(",")]
    except ValueError:
        values = []
    if len(values) != 4:
        raise argparse.ArgumentTypeError(f"{text!r}: expected X,Y,W,H")
    return values


def _open(arguments: argparse.Namespace) -> Classifier:
    return Classifier(
        arguments.model,
        device=arguments.device,
        threads=arguments.threads,
        batch_size=arguments.batch,
    )


def _classify(arguments: argparse.Namespace) -> int:
    paths = list(_pictures(arguments.inputs))
    failed = 0
    with _open(arguments) as classifier:
        print(f"# {classifier!r}; {NOTE}", file=sys.stderr)
        for start in range(0, len(paths), classifier.batch_size):
            batch = paths[start : start + classifier.batch_size]
            for path, result in zip(batch, _results(classifier, batch, arguments.box)):
                failed += isinstance(result, ImageError)
                print(_row(path, result, arguments.json))
    if failed:
        print(f"gender-edge: {failed} of {len(paths)} pictures could not be read", file=sys.stderr)
    return 2 if failed == len(paths) else int(failed > 0)


def _results(
    classifier: Classifier, paths: list[str], box: Optional[list[float]]
) -> Iterable[Prediction | ImageError]:
    if box is None:
        return classifier(paths, errors="return")
    return [_in_frame(classifier, path, box) for path in paths]


def _in_frame(classifier: Classifier, path: str, box: list[float]) -> Prediction | ImageError:
    try:
        return classifier.in_frame(path, [box])[0]
    except ImageError as error:
        return error


def _pictures(inputs: Iterable[str]) -> Iterator[str]:
    """Files as they are named (their errors become rows); folders and globs by image suffix."""
    for text in inputs:
        path = Path(text)
        if path.is_dir():
            found = [str(p) for p in list_images(path)]
        elif glob.has_magic(text) and not path.exists():
            matches = glob.glob(text, recursive=True)  # noqa: PTH207  (Path.glob: relative only)
            found = [p for p in sorted(matches) if is_image(Path(p))]
        else:
            found = [text]
        if not found:
            raise DataError(f"{text}: no pictures there ({', '.join(sorted(IMAGE_SUFFIXES))})")
        yield from found


def _row(path: str, result: Prediction | ImageError, as_json: bool) -> str:
    if isinstance(result, ImageError):
        row: dict[str, Any] = {"path": path, "error": str(result)}
        return json.dumps(row) if as_json else f"{path}\terror\t{result}"
    if as_json:
        row = {"path": path, "label": result.label}
        row |= {"female": round(result.female, 5), "confidence": round(result.confidence, 5)}
        return json.dumps(row)
    label = result.label or "abstained"
    return f"{path}\t{label}\tfemale {result.female:.3f}\tconfidence {result.confidence:.3f}"


def _models(arguments: argparse.Namespace) -> int:
    limits = (arguments.budget_ms, arguments.max_mb, arguments.min_accuracy)
    if all(limit is None for limit in limits):
        return _list(arguments)
    return _choose(arguments, choose.Budget(*limits))


def _choose(arguments: argparse.Namespace, budget: choose.Budget) -> int:
    """The one model and engine that a budget allows, on stdout; all of them on stderr."""
    found, left_out = choose.candidates(arguments.device, arguments.threads)
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
        f"{'model':{width}}      MB  input        MMACs  accuracy, %       licence of the weights"
    )
    usual = list(zoo.entry(zoo.default()).evaluation["sets"])
    for e in entries:
        spec, sets = e.evaluation["spec"], list(e.evaluation["sets"])
        side = f"{spec['input_size']}x{spec['input_size']} {'grey' if spec['grayscale'] else 'RGB'}"
        marks = " (default)" if e.name == zoo.default() else ""
        marks += "" if sorted(sets) == sorted(usual) else f" (tested on {', '.join(sets)})"
        low, value, high = (100 * e.accuracy[key] for key in ("low", "value", "high"))
        print(
            f"{e.name:{width}}  {e.bytes / 1e6:6.2f}  {side:11} {spec['macs'] / 1e6:6.0f}   "
            f"{value:.1f} ({low:.1f}-{high:.1f})  {spec['license']}{marks}"
        )
    print(
        f"accuracy: mean of balanced accuracy over {', '.join(usual)}, aligned faces, with "
        f"its 95 % interval; {NOTE}"
    )
    return 0


def _watch(arguments: argparse.Namespace) -> int:
    """To the end of all sources, or until Ctrl-C or SIGTERM; either way files are finished."""
    from . import watch  # here: what only cameras need

    try:
        with watch.terminable(), ExitStack() as stack:
            _follow(arguments, stack)
    except KeyboardInterrupt:  # how one stops watching
        pass
    return 0


def _follow(arguments: argparse.Namespace, stack: ExitStack) -> None:
    from . import faces, saving, watch
    from .camera import Camera, shown
    from .pipeline import Pipeline

    files = saving.targets(arguments.record, arguments.sources) if arguments.record else []
    crops = saving.Crops(arguments.save_crops) if arguments.save_crops else None
    detector = faces.detector(arguments.detector)
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
            max_batch=arguments.batch,
            keep_frames=bool(files or crops),
        )
    )
    tally = watch.Tally(pipeline)
    if arguments.metrics is not None:
        _serve(tally.stats, arguments.metrics, stack)
    recorders = [saving.Recorder(f, saving.rate(c)) for f, c in zip(files, cameras)]
    for recorder, camera in zip(recorders, cameras):
        stack.callback(recorder.close)
        print(f"# SAVES PICTURES: {shown(camera.source)} to {recorder.path}", file=sys.stderr)
    if crops:
        print(f"# SAVES PICTURES: a crop a decided track to {crops.folder}", file=sys.stderr)
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


def _build(arguments: argparse.Namespace) -> int:
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
    """One line that changes on a terminal; elsewhere a line a step."""
    if sys.stderr.isatty():
        print(f"\r\033[K{name} {step}/{steps}", end="", file=sys.stderr, flush=True)
    else:
        print(f"{name} {step}/{steps}", file=sys.stderr, flush=True)


def _deploy(arguments: argparse.Namespace) -> int:
    from . import deploy  # here: what only this needs

    write = {"deepstream": deploy.deepstream, "triton": deploy.triton}[arguments.server]
    home = write(arguments.model or zoo.default(), arguments.folder)
    for path in sorted(p for p in home.rglob("*") if p.is_file()):
        print(path)
    return 0


def _doctor(arguments: argparse.Namespace) -> int:
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


def _evaluate(arguments: argparse.Namespace) -> int:
    samples = read_labelled(arguments.data, arguments.split)
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
    """An evaluation for people: one line a group, per cent with 95 % intervals."""
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
