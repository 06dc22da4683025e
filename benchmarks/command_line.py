"""Every shipped variant on this machine, and peers beside them: latency, throughput, memory,
size, energy where it is counted, and accuracy.

    python benchmarks/run.py                          all shipped variants
    python benchmarks/run.py --data faces.csv         accuracy measured here, not as recorded
    python benchmarks/run.py --peers --peers-dir DIR  other projects' classifiers in the same run
    python benchmarks/run.py --pace 30                latency and CPU of 30 faces a second
    python benchmarks/run.py --cameras 15x3           how many cameras (15 fps, 3 faces) it serves
    python benchmarks/run.py --json a.json --html a.html --plot a.png

Every subject has a process of its own; they are timed in rounds, one after another. Progress goes
to stderr, the table to stdout; its last line is the whole result as one line of JSON.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from benchmarks import scenarios
from gender_edge import choose, host


def parse(argv: list[str]) -> argparse.Namespace:
    """What a command line asks for, defaults filled in; exits where it makes no sense."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", help="shipped names or files (default: all shipped)")
    what = parser.add_argument_group("what is measured")
    what.add_argument("--batches", type=_sizes, help="batch sizes (default: 1,8,32)")
    what.add_argument(
        "--seconds", type=_positive, help="for each batch size, all rounds (default: 3)"
    )
    what.add_argument("--rounds", type=_count, help="how often each is visited (default: 5)")
    what.add_argument("--threads", type=_count, help="CPU threads (default: the engine's choice)")
    what.add_argument(
        "--device",
        help="as Classifier takes it; several (cpu,cuda) are rows of their own (default: every "
        "engine that is installed)",
    )
    what.add_argument(
        "--clock",
        choices=scenarios.CLOCKS,
        default="network",
        help="; ".join(f"{name}: {text}" for name, text in scenarios.CLOCKS.items()),
    )
    what.add_argument(
        "--detector", help="for --clock detect: a YuNet ONNX file (default: ours, or CenterFace)"
    )
    what.add_argument(
        "--pace",
        type=_positive,
        metavar="FPS",
        help="also one face at a time, so many a second: latency, and what waiting costs the CPU",
    )
    what.add_argument(
        "--cameras", type=_stream, metavar="FPSxFACES", help="also MLPerf's multi stream"
    )
    what.add_argument("--deadline", type=_positive, help="ms, for --cameras (default: one frame)")
    what.add_argument(
        "--data",
        action="append",
        help="labelled folder or list: measure accuracy here; several are averaged",
    )
    what.add_argument("--split", help="only this split of the data")
    what.add_argument("--peers", action="store_true", help="other projects' classifiers too")
    what.add_argument("--peers-dir", type=Path, help="a folder of peers with their harness")
    what.add_argument("--quick", action="store_true", help="batches 1 and 16, 0.4 s each")
    what.add_argument(
        "--one-by-one", action="store_true", help="no two subjects in memory at once; no rounds"
    )
    out = parser.add_argument_group("what is written")
    out.add_argument("--json", type=Path, metavar="FILE", help="kept up to date while it runs")
    out.add_argument("--resume", action="store_true", help="go on with what --json FILE holds")
    out.add_argument("--markdown", type=Path, metavar="FILE")
    out.add_argument("--csv", type=Path, metavar="FILE")
    out.add_argument("--plot", type=Path, metavar="FILE", help="PNG, SVG or PDF")
    out.add_argument("--html", type=Path, metavar="FILE", help="one page with all plots")
    out.add_argument("--save", action="store_true", help="JSON under benchmarks/results/")
    out.add_argument(
        "--record", action="store_true", help="keep latencies for `gender-edge models --budget-ms`"
    )
    arguments = parser.parse_args(argv)
    if arguments.resume and not arguments.json:
        parser.error("--resume needs --json FILE, what was interrupted")
    quick = arguments.quick
    arguments.batches = arguments.batches or ([1, 16] if quick else [1, 8, 32])
    arguments.seconds = arguments.seconds or (0.4 if quick else 3.0)
    arguments.rounds = 1 if arguments.one_by_one else arguments.rounds or (2 if quick else 5)
    arguments.devices = (
        arguments.device.split(",") if arguments.device else choose.installed_engines()
    )
    if arguments.record and (
        arguments.threads or arguments.clock != "network" or 1 not in arguments.batches
    ):
        parser.error("--record wants batch 1, --clock network and no --threads")
    if arguments.record and host.processor() is None:
        parser.error("--record: this system does not tell its processor's name")
    return arguments


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number from 1")
    return int(text)


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number above 0")
    return value


def _sizes(text: str) -> list[int]:
    parts = text.split(",")
    if not all(p.isdigit() and int(p) > 0 for p in parts):
        raise argparse.ArgumentTypeError(f"{text!r}: expected batch sizes such as 1,8,32")
    return sorted({int(p) for p in parts})


def _stream(text: str) -> tuple[float, int]:
    fps, _, faces = text.partition("x")
    try:
        stream = float(fps), int(faces or 1)
    except ValueError:
        stream = 0.0, 0
    if not (math.isfinite(stream[0]) and min(stream) > 0):
        raise argparse.ArgumentTypeError(f"{text!r}: expected frames a second x faces, as 15x3")
    return stream
