"""Every shipped variant on this machine, and peers beside them: latency, throughput, memory,
size, energy where it is counted, and accuracy.

    python benchmarks/run.py                          all shipped variants
    python benchmarks/run.py --data faces.csv         accuracy measured here, not as recorded
    python benchmarks/run.py --peers --peers-dir DIR  other projects' classifiers in the same run
    python benchmarks/run.py --cameras 15x3           how many cameras (15 fps, 3 faces) it serves
    python benchmarks/run.py --json a.json --html a.html --plot a.png

Every subject has a process of its own; they are timed in rounds, one after another. Progress goes
to stderr, the table to stdout; its last line is the whole result as one line of JSON.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a file: make the folder above importable
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import (
    figures,
    machine,
    page,
    peers,
    probe,
    records,
    report,
    rounds,
    scenarios,
    subjects,
)
from benchmarks.processes import ROOT, Process, SubjectError
from gender_edge import GenderEdgeError, zoo
from gender_edge.labelled import read_labelled

RECORDED = "Accuracy: mean balanced accuracy over the recorded test sets ({})."
MEASURED = "Accuracy: mean balanced accuracy over {}, measured in this run."
SAME = (  # what a run must share with the one that it goes on with
    *("devices", "models", "batches", "seconds", "rounds", "threads", "clock", "detector"),
    *("cameras", "deadline", "data", "split"),
)


def parse(argv: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", help="shipped names or files (default: all shipped)")
    what = parser.add_argument_group("what is measured")
    what.add_argument("--batches", type=_sizes, help="batch sizes (default: 1,8,32)")
    what.add_argument("--seconds", type=float, help="for each batch size, all rounds (default: 3)")
    what.add_argument("--rounds", type=int, help="how often each is visited (default: 5)")
    what.add_argument("--threads", type=int, help="CPU threads (default: the engine's choice)")
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
    what.add_argument("--detector", help="YuNet ONNX file, for --clock detect")
    what.add_argument(
        "--cameras", type=_stream, metavar="FPSxFACES", help="also MLPerf's multi stream"
    )
    what.add_argument("--deadline", type=float, help="ms, for --cameras (default: one frame)")
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
    if arguments.clock == "detect" and not arguments.detector:
        parser.error("--clock detect needs --detector FILE, a YuNet ONNX file")
    if arguments.resume and not arguments.json:
        parser.error("--resume needs --json FILE, what was interrupted")
    quick = arguments.quick
    arguments.batches = arguments.batches or ([1, 16] if quick else [1, 8, 32])
    arguments.seconds = arguments.seconds or (0.4 if quick else 3.0)
    arguments.rounds = 1 if arguments.one_by_one else arguments.rounds or (2 if quick else 5)
    arguments.devices = arguments.device.split(",") if arguments.device else subjects.engines()
    if arguments.record and (
        arguments.threads or arguments.clock != "network" or 1 not in arguments.batches
    ):
        parser.error("--record wants batch 1, --clock network and no --threads")
    return arguments


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
    if min(stream) <= 0:
        raise argparse.ArgumentTypeError(f"{text!r}: expected frames a second x faces, as 15x3")
    return stream


def main(argv: list[str] | None = None) -> int:
    """Run a command line; returns 0, 1 if a subject could not be measured, 2 if nothing could."""
    argv = sys.argv[1:] if argv is None else argv
    arguments = parse(argv)
    if arguments.plot or arguments.html:
        figures.need_matplotlib()
    try:
        for path in arguments.data or ():
            read_labelled(path, arguments.split)
        plan = _plan(arguments)
        result = _begin(arguments, argv, plan)
    except GenderEdgeError as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return 2
    try:
        for group in [[v] for v in plan] if arguments.one_by_one else [plan]:
            _measure(group, arguments, result)
    except KeyboardInterrupt:
        if arguments.json:
            print(f"\nbenchmark: {arguments.json} holds what was measured; --resume goes on")
        return 130
    print(report.text(result))
    print(json.dumps(result), flush=True)
    for line in rounds.too_wide(result["variants"]):
        print(f"benchmark: rounds differ too much to rank {line}", file=sys.stderr)
    _write(result, arguments)
    if arguments.record:
        records.record(result)
    return int(any("error" in v for v in result["variants"]))


def _plan(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Descriptions of all subjects, ours first."""
    names, most = arguments.models or zoo.names(), max(arguments.batches)
    plan = [
        subjects.variant(name, device, arguments.threads, most)
        for name, device in itertools.product(names, arguments.devices)
    ]
    if arguments.peers or arguments.peers_dir:
        plan += peers.find(arguments.peers_dir, arguments.threads)
    return plan


def _begin(
    arguments: argparse.Namespace, argv: list[str], plan: list[dict[str, Any]]
) -> dict[str, Any]:
    """An empty result, or the one to go on with."""
    settings = json.loads(json.dumps({key: getattr(arguments, key) for key in SAME}))
    if arguments.resume and arguments.json.is_file():
        result: dict[str, Any] = json.loads(arguments.json.read_text())
        other = [k for k in settings if result.get("settings", {}).get(k) != settings[k]]
        here = machine.describe()
        other += [k for k in ("cpu", "cores", "packages") if result["machine"].get(k) != here[k]]
        if other:
            raise GenderEdgeError(
                f"{arguments.json} was made with other {', '.join(other)}; repeat that command, or "
                "start anew without --resume"
            )
    else:
        result = {
            "command": " ".join(["python benchmarks/run.py", *argv]),
            "machine": {**machine.describe(), "peaks": probe.peaks()},
            "settings": settings,
            "threads": arguments.threads,
            "variants": [],
        }
    known = {(v["name"], v["asked"]) for v in result["variants"]}
    for own in plan:
        if (own["name"], own["engine"]) not in known:
            kind = "variant" if own["kind"] == "variant" else "peer"
            row = {"name": own["name"], "asked": own["engine"], "kind": kind}
            result["variants"].append({**row, "engine": own["engine"], "rounds": {}})
    return result


def _measure(
    plan: list[dict[str, Any]], arguments: argparse.Namespace, result: dict[str, Any]
) -> None:
    """Everything about some subjects that are open at the same time."""
    rows = {(v["name"], v["asked"]): v for v in result["variants"]}
    open_now: list[tuple[dict[str, Any], Process]] = []
    with ExitStack() as stack:

        def each(step: Callable[[dict[str, Any], Process], None], what: str) -> None:
            """One step of every subject that still stands; one that fails costs its own row."""
            for row, process in list(open_now):
                _progress(f"{what}: {row['name']} on {row['asked']}")
                try:
                    step(row, process)
                except SubjectError as error:
                    row["error"] = str(error)
                    open_now.remove((row, process))
                _finish(result, arguments)

        for description in plan:
            row = rows[description["name"], description["engine"]]
            row.pop("error", None)
            _forget_another_file(description, row)
            _progress(f"opening {row['name']} on {row['asked']}")
            try:
                _remember(description, row, arguments)
                process = stack.enter_context(Process(description))
                row.update({k: v for k, v in process.opened.items() if k != "resident_mb"})
                open_now.append((row, process))
            except SubjectError as error:
                row["error"] = str(error)
        _finish(result, arguments)
        for number in range(1, arguments.rounds + 1):
            each(lambda row, p: _round(row, p, arguments, number), f"round {number}")  # noqa: B023
        if arguments.cameras:
            each(lambda row, p: _cameras(row, p, arguments), "cameras")
        each(lambda row, p: _judge(row, p, arguments), "accuracy")
    _progress("")


def _forget_another_file(description: dict[str, Any], row: dict[str, Any]) -> None:
    """Begin a row anew if the model is not the file that an interrupted run had."""
    if description["kind"] != "variant":
        return
    name = description["name"]
    try:
        path = zoo.entry(name).path if name in zoo.names() else Path(name)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except (OSError, GenderEdgeError):  # opening it will say why
        return
    if row.get("sha256") not in (None, digest):
        kept = {key: row[key] for key in ("name", "asked", "kind", "engine")}
        row.clear()
        row.update({**kept, "rounds": {}})
    row["sha256"] = digest


def _remember(
    description: dict[str, Any], row: dict[str, Any], arguments: argparse.Namespace
) -> None:
    """Memory of fresh processes, one a batch size."""
    row.setdefault("resident_mb", {})
    for batch in arguments.batches:
        if str(batch) in row["resident_mb"]:
            continue
        values = {**description["open"], "batch": batch}
        kind = description["kind"]
        fresh = {**description, "open": values if kind == "variant" else description["open"]}
        with Process(fresh) as process:
            peak = process.ask("remember", batch=batch)
            row["resident_mb"][str(batch)] = {**process.opened["resident_mb"], **peak}


def _round(
    row: dict[str, Any], process: Process, arguments: argparse.Namespace, number: int
) -> None:
    for batch in arguments.batches:
        done = row["rounds"].setdefault(str(batch), [])
        if len(done) >= number:
            continue
        timed = process.ask(
            "time",
            batch=batch,
            seconds=arguments.seconds / arguments.rounds,
            clock=arguments.clock,
            detector=arguments.detector,
        )
        done.append(timed)


def _cameras(row: dict[str, Any], process: Process, arguments: argparse.Namespace) -> None:
    if "cameras" not in row:
        fps, faces = arguments.cameras
        row["cameras"] = process.ask(
            "cameras",
            clock="network" if arguments.clock == "network" else "crop",
            fps=fps,
            faces=faces,
            deadline_ms=arguments.deadline or 1e3 / fps,
            seconds=max(1.0, arguments.seconds / 3),
        )


def _judge(row: dict[str, Any], process: Process, arguments: argparse.Namespace) -> None:
    """Accuracy: measured here where there is data, else as recorded."""
    sets = row.pop("recorded", None) or {}
    if "accuracy" in row:
        return
    if arguments.data:
        sets = process.ask("judge", lists=arguments.data, split=arguments.split)["sets"]
    parts = {name: figures["balanced_accuracy"] for name, figures in sets.items()}
    whole = [part for part in parts.values() if part["value"] is not None]
    mean = zoo.mean_accuracy(whole) if whole else {"value": None}
    row["accuracy"] = {"measured": bool(arguments.data), **mean, "sets": parts}
    row["evaluation"] = sets


def _finish(result: dict[str, Any], arguments: argparse.Namespace) -> None:
    """Bring the figures that follow from others up to date, and keep the result so far."""
    # The peaks are those of the processor's cores all together, for arithmetic and nothing else.
    whole = result["threads"] is None and result["settings"]["clock"] == "network"
    peaks = result["machine"]["peaks"] if whole else None
    for row in result["variants"]:
        row["batches"] = [
            _batch(row, int(batch), done, peaks) for batch, done in row["rounds"].items() if done
        ]
    result["accuracy_note"] = _note(result["variants"], arguments.data)
    if arguments.json:
        _keep(arguments.json, result)


def _batch(
    row: dict[str, Any], batch: int, done: list[dict[str, Any]], peaks: dict[str, float] | None
) -> dict[str, Any]:
    figures = {"batch": batch, **rounds.together(done)}
    memory = row.get("resident_mb", {}).get(str(batch))
    joules = [r["joules"] / (r["runs"] * batch) for r in done if r.get("joules")]
    return {
        **figures,
        "resident_mb": memory,
        "mj_per_face": 1e3 * sum(joules) / len(joules) if joules else None,
        "roofline": _roofline(row, figures, peaks),
    }


def _roofline(
    row: dict[str, Any], figures: dict[str, Any], peaks: dict[str, float] | None
) -> float | None:
    """The least time that the processor's peaks allow, as a share of the time that it took."""
    if peaks is None or not row.get("macs") or not row["provider"].startswith("CPU"):
        return None
    pixels = figures["batch"] * 3 * row["input_size"] ** 2
    compute = row["macs"] * figures["batch"] / (1e9 * peaks["gemm_gmacs"])
    traffic = (row["bytes"] + pixels) / (1e9 * peaks["copy_gb_s"])
    return float(max(compute, traffic) / (figures["p50_ms"] / 1e3))


def _note(variants: list[dict[str, Any]], data: list[str] | None) -> str:
    done = [v["accuracy"] for v in variants if v.get("accuracy", {}).get("sets")]
    if not done:
        return ""
    sets = ", ".join(f"{name} ({s['n']} faces)" for name, s in done[0]["sets"].items())
    return (MEASURED if data else RECORDED).format(sets)


def _progress(text: str) -> None:
    """What is being done: one line on a terminal, nothing elsewhere but its beginning."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text[:100]}", end="", file=sys.stderr, flush=True)
    elif text.startswith(("opening", "round 1:")):
        print(text, file=sys.stderr, flush=True)


def _keep(target: Path, result: dict[str, Any]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    partial.write_text(json.dumps(result, indent=1) + "\n")
    partial.replace(target)


def _write(result: dict[str, Any], arguments: argparse.Namespace) -> None:
    if arguments.save:
        name = machine.slug(result["machine"])
        _keep(ROOT / "benchmarks" / "results" / f"{name}.json", result)
    for target, made in (
        (arguments.markdown, report.markdown),
        (arguments.csv, report.csv_text),
        (arguments.html, page.html),
    ):
        if target:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(made(result), encoding="utf-8")
    if arguments.plot:
        figures.save_front(result, arguments.plot)


if __name__ == "__main__":
    raise SystemExit(main())
