"""Every shipped variant on this machine: latency, throughput, memory, size and accuracy.

    python benchmarks/run.py                          all shipped variants
    python benchmarks/run.py --data faces.csv         accuracy measured here, not as recorded
    python benchmarks/run.py --json out.json --markdown out.md --plot out.png

Progress and the table go to stdout; its last line is the whole result as one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a file: make the folder above importable
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import machine, report
from gender_edge import Classifier, GenderEdgeError, evaluation, zoo
from gender_edge.labelled import Sample, read_labelled

MEASURE = Path(__file__).with_name("measure.py")
QUICK = {"seconds": 0.4, "batches": "1,16"}
RECORDED = "Accuracy: mean balanced accuracy over the recorded test sets ({})."
MEASURED = "Accuracy: balanced accuracy measured in this run on {} faces of {}."


def parse(argv: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", help="shipped names or files (default: all shipped)")
    parser.add_argument("--batches", default="1,8,32", help="batch sizes, comma-separated")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each batch size")
    parser.add_argument("--threads", type=int, help="CPU threads (default: the engine's choice)")
    parser.add_argument("--data", help="labelled folder or list: measure accuracy here")
    parser.add_argument("--split", help="only this split of the data")
    parser.add_argument("--quick", action="store_true", help="batches 1 and 16, briefly")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--markdown", type=Path, metavar="FILE")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="PNG, SVG or PDF")
    parser.add_argument("--save", action="store_true", help="JSON under benchmarks/results/")
    arguments = parser.parse_args(argv)
    if arguments.quick:
        vars(arguments).update(QUICK)
    return arguments


def main(argv: list[str] | None = None) -> int:
    """Run a command line; returns 0, or 1 if a variant could not be measured."""
    argv = sys.argv[1:] if argv is None else argv
    arguments = parse(argv)
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
    for name in names:
        print(f"measuring {name} ...", file=sys.stderr, flush=True)
        result["variants"].append(variant(name, arguments, samples))
    result["accuracy_note"] = _note(result["variants"], arguments.data)
    _write(result, arguments)
    print(report.text(result))
    print(json.dumps(result))
    return int(any("error" in v for v in result["variants"]))


def variant(
    name: str, arguments: argparse.Namespace, samples: list[Sample] | None
) -> dict[str, Any]:
    """Everything about one model; a model that fails is a row with its reason."""
    command = [sys.executable, str(MEASURE), name, "--batches", arguments.batches]
    command += ["--seconds", str(arguments.seconds)]
    command += ["--threads", str(arguments.threads)] if arguments.threads else []
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    if process.returncode:
        lines = process.stderr.strip().splitlines()
        return {"name": name, "error": lines[-1] if lines else f"exit {process.returncode}"}
    figures: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    content, _ = zoo.read(name)
    with Classifier(name) as classifier:
        spec = classifier.spec
        accuracy = _accuracy(name, classifier, samples)
    return {
        "name": name,
        "precision": spec.precision,
        "input_size": spec.input_size,
        "parameters": spec.parameters,
        "macs": spec.macs,
        "bytes": len(content),
        "accuracy": accuracy,
        **figures,
    }


def _accuracy(name: str, classifier: Classifier, samples: list[Sample] | None) -> dict[str, Any]:
    if samples is not None:
        figures = evaluation.report(evaluation.classify(classifier, samples))
        return {"measured": True, **figures["balanced_accuracy"], "groups": figures["groups"]}
    if name not in zoo.names():
        return {"measured": False, "value": None, "sets": {}}
    recorded = zoo.entry(name)
    return {
        "measured": False,
        "value": recorded.accuracy,
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
        target.write_text(json.dumps(result, indent=1) + "\n")
    if arguments.markdown:
        arguments.markdown.write_text(report.markdown(result))
    if arguments.plot:
        report.plot(result, arguments.plot)


if __name__ == "__main__":
    raise SystemExit(main())
