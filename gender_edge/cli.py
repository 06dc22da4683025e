"""The command line, `gender-edge`: its words, and how it ends. `commands` does the work."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Optional, TextIO

from . import __version__, commands, evaluation
from .classifier import DEFAULT_BATCH
from .commands import NOTE
from .errors import GenderEdgeError


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run a command line; returns the exit status.

    0: done. 1: some pictures could not be read (each has its row). 2: nothing could be done.
    """
    sys.stdout, sys.stderr = (stream or _nowhere() for stream in (sys.stdout, sys.stderr))
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
        _let_go()
        return 0
    except OSError as error:
        print(f"gender-edge: {error}", file=sys.stderr)
        _let_go()
        return 2
    return status


def _nowhere() -> TextIO:
    """For what is written to a stream that was closed before the program began."""
    return Path(os.devnull).open("w", encoding="utf-8")


def _let_go() -> None:
    """What cannot be written goes nowhere; Python would try again at exit, and complain."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gender-edge", description=f"Classify faces: {NOTE}.")
    parser.add_argument("--version", action="version", version=__version__)
    verbs = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, run, options, about in (
        ("classify", commands.classify, _for_pictures, "faces to labels, one row per face"),
        (
            "models",
            commands.models,
            _for_a_choice,
            "what is shipped, which under a budget, or one of it",
        ),
        ("watch", commands.watch_cameras, _for_cameras, "faces found, followed, classified"),
        ("build", commands.build, _for_an_engine, "a TensorRT engine from a model"),
        ("deploy", commands.deploy_to, _for_a_server, "files for DeepStream, Triton or a browser"),
        ("doctor", commands.diagnose, _json, "what is installed, and what would be used"),
        ("evaluate", commands.evaluate, _for_a_set, "accuracy on labelled faces, by group"),
    ):
        verb = verbs.add_parser(name, help=about, description=about)
        options(verb)
        verb.set_defaults(run=run)
    return parser


def _for_pictures(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("inputs", nargs="+", metavar="INPUT", help="picture, folder or glob")
    _json(verb)
    where = verb.add_mutually_exclusive_group()
    where.add_argument(
        "--box",
        type=_box,
        metavar="X,Y,W,H",
        help="where the face is, in pixels (with a minus in front: --box=-5,0,80,80); without it "
        "and without --find a picture is taken as a face crop",
    )
    where.add_argument("--find", action="store_true", help="find the faces of each picture first")
    _detector_option(verb)
    _engine_options(verb)


def _for_a_choice(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("model", nargs="?", help="shipped name or file: what it says of itself")
    _json(verb)
    verb.add_argument("--budget-ms", type=float, help="most milliseconds for one face")
    verb.add_argument("--max-mb", type=float, help="largest file")
    verb.add_argument("--min-accuracy", type=_percent, metavar="PERCENT", help="as 95")
    verb.add_argument("--device", default="auto", help="where a budget is timed; as for classify")
    verb.add_argument("--threads", type=_positive, help="CPU threads for that (default: all)")


def _for_cameras(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("sources", nargs="+", metavar="SOURCE", help="device, file, address")
    _detector_option(verb)
    verb.add_argument(
        "--json",
        action="store_true",
        help="one JSON object per decision: a track has become sure, or has changed its label",
    )
    verb.add_argument(
        "--every-frame", action="store_true", help="one JSON object per face and frame instead"
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
        help="SAVES PICTURES: one crop per decided track",
    )
    _engine_options(verb)


def _for_an_engine(verb: argparse.ArgumentParser) -> None:
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


def _for_a_server(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("server", choices=("deepstream", "triton", "browser"))
    verb.add_argument("folder", type=Path, metavar="OUT")
    verb.add_argument(
        "--runtime",
        type=Path,
        metavar="DIR",
        help="browser: copy ONNX Runtime from the unpacked npm package onnxruntime-web",
    )
    verb.add_argument("--model", help="shipped name or file (default: the shipped default)")


def _for_a_set(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("data", help="labelled folder, or CSV with columns path,label")
    verb.add_argument("--split", help="only this split of the data")
    verb.add_argument(
        "--crop",
        choices=evaluation.FRAMINGS,
        default=evaluation.FRAMINGS[0],
        help="what to cut faces by, where a list has it (default: the best it has)",
    )
    verb.add_argument(
        "--detector",
        metavar="FILE",
        help="YuNet ONNX file: find the faces that the data tell neither box nor landmarks of",
    )
    _json(verb)
    _engine_options(verb)


def _detector_option(verb: argparse.ArgumentParser) -> None:
    about = "finds faces: YuNet ONNX file (default: ours if it is shipped, else CenterFace)"
    verb.add_argument("--detector", metavar="FILE", help=about)


def _json(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--json", action="store_true", help="JSON, an object a line")


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
