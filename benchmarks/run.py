"""Every shipped variant on this machine: latency, throughput, memory, size and accuracy.

    python benchmarks/run.py                          all shipped variants
    python benchmarks/run.py --data faces.csv         accuracy measured here, not as recorded
    python benchmarks/run.py --json out.json --markdown out.md --plot out.png

Progress and the table go to stdout; its last line is the whole result as one line of JSON.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a file: make the folder above importable
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import machine, report
from gender_edge import BackendError, Classifier, GenderEdgeError, evaluation, zoo
from gender_edge.labelled import Sample, read_labelled

ROOT = Path(__file__).resolve().parent.parent
RECORDED = "Accuracy: mean balanced accuracy over the recorded test sets ({})."
MEASURED = "Accuracy: balanced accuracy measured in this run on {} faces of {}."


def parse(argv: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", help="shipped names or files (default: all shipped)")
    parser.add_argument("--batches", type=_sizes, help="batch sizes (default: 1,8,32)")
    parser.add_argument("--seconds", type=float, help="for each batch size (default: 3)")
    parser.add_argument("--threads", type=int, help="CPU threads (default: the engine's choice)")
    parser.add_argument(
        "--device",
        default="auto",
        help="as Classifier takes it; several (cpu,cuda) are rows of their own",
    )
    parser.add_argument("--data", help="labelled folder or list: measure accuracy here")
    parser.add_argument("--split", help="only this split of the data")
    parser.add_argument("--quick", action="store_true", help="batches 1 and 16, 0.4 s each")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--markdown", type=Path, metavar="FILE")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="PNG, SVG or PDF")
    parser.add_argument("--save", action="store_true", help="JSON under benchmarks/results/")
    arguments = parser.parse_args(argv)
    arguments.batches = arguments.batches or ([1, 16] if arguments.quick else [1, 8, 32])
    arguments.seconds = arguments.seconds or (0.4 if arguments.quick else 3.0)
    return arguments


def _sizes(text: str) -> list[int]:
    parts = text.split(",")
    if not all(p.isdigit() and int(p) > 0 for p in parts):
        raise argparse.ArgumentTypeError(f"{text!r}: expected batch sizes such as 1,8,32")
    return sorted({int(p) for p in parts})


def main(argv: list[str] | None = None) -> int:
    """Run a command line; returns 0, 1 if a variant could not be measured, 2 if nothing could."""
    argv = sys.argv[1:] if argv is None else argv
    arguments = parse(argv)
    if arguments.plot:
        report.need_matplotlib()
    try:
        samples = read_labelled(arguments.data, arguments.split) if arguments.data else None
        names = arguments.models or zoo.names()
    except GenderEdgeError as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return 2
    result: dict[str, Any] = {
        "command": " ".join(["python benchmarks/run.py", *argv]),
        "machine": machine.describe(),
        "threads": arguments.threads,
        "variants": [],
    }
    for name, device in itertools.product(names, arguments.device.split(",")):
        print(f"measuring {name} on {device} ...", file=sys.stderr, flush=True)
        result["variants"].append(variant(name, device, arguments, samples))
    result["accuracy_note"] = _note(result["variants"], arguments.data)
    print(report.text(result))
    _write(result, arguments)
    print(json.dumps(result))
    return int(any("error" in v for v in result["variants"]))


def variant(
    name: str, device: str, arguments: argparse.Namespace, samples: list[Sample] | None
) -> dict[str, Any]:
    """Everything about one model on one device; a model that fails is a row with its reason."""
    try:
        with Classifier(name, device=device) as classifier:
            spec, engine = classifier.spec, classifier.backend.split()[0]
            accuracy = _accuracy(name, classifier, samples)
        path = zoo.entry(name).path if name in zoo.names() else Path(name)
        rows = [_measured(name, device, size, arguments) for size in arguments.batches]
    except GenderEdgeError as error:
        return {"name": name, "engine": device, "error": str(error)}
    return {
        "name": name,
        "engine": engine,
        "precision": spec.precision,
        "input_size": spec.input_size,
        "parameters": spec.parameters,
        "macs": spec.macs,
        "bytes": path.stat().st_size,
        "accuracy": accuracy,
        "batches": rows,
    }


def _measured(name: str, device: str, batch: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """One batch size in a process of its own, which imports the same tree as this one."""
    command = [sys.executable, "-m", "benchmarks.measure", name, "--batch", str(batch)]
    command += ["--seconds", str(arguments.seconds), "--device", device]
    command += ["--threads", str(arguments.threads)] if arguments.threads else []
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in paths if p)}
    process = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if process.returncode:
        lines = process.stderr.strip().splitlines()
        raise BackendError(lines[-1] if lines else f"exit status {process.returncode}")
    figures: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    return figures


def _accuracy(name: str, classifier: Classifier, samples: list[Sample] | None) -> dict[str, Any]:
    if samples is not None:
        figures = evaluation.report(evaluation.classify(classifier, samples))
        return {"measured": True, **figures["balanced_accuracy"], "groups": figures["groups"]}
    if name not in zoo.names():
        return {"measured": False, "value": None, "sets": {}}
    recorded = zoo.entry(name)
    return {
        "measured": False,
        **recorded.accuracy,
        "sets": {k: v["balanced_accuracy"] for k, v in recorded.evaluation["sets"].items()},
    }


def _note(variants: list[dict[str, Any]], data: str | None) -> str:
    done = [v["accuracy"] for v in variants if "error" not in v]
    if not done:
        return ""
    if data:
        return MEASURED.format(done[0]["n"], Path(data).name)
    return RECORDED.format(", ".join(done[0]["sets"]))


def _write(result: dict[str, Any], arguments: argparse.Namespace) -> None:
    targets = [arguments.json] if arguments.json else []
    if arguments.save:
        name = machine.slug(result["machine"])
        targets.append(Path(__file__).parent / "results" / f"{name}.json")
    for target in targets:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(result, indent=1) + "\n")
    if arguments.markdown:
        arguments.markdown.parent.mkdir(parents=True, exist_ok=True)
        arguments.markdown.write_text(report.markdown(result))
    if arguments.plot:
        report.plot(result, arguments.plot)


if __name__ == "__main__":
    raise SystemExit(main())
