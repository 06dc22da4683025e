"""A benchmark run, from its command line (`command_line.py`) to its files: every subject in a
process of its own, timed in rounds, one after another.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import shlex
import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a file: make the folder above importable
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import (
    command_line,
    derived,
    figures,
    machine,
    page,
    peers,
    probe,
    records,
    report,
    rounds,
    storage,
    subjects,
)
from benchmarks.processes import Process, SubjectError
from gender_edge import GenderEdgeError, choose, measures, zoo
from gender_edge.labelled import read_labelled

SAME = (  # what a run must share with the one that it goes on with
    *("devices", "models", "batches", "seconds", "rounds", "threads", "clock", "detector"),
    *("pace", "cameras", "deadline", "data", "split"),
)


def main(argv: list[str] | None = None) -> int:
    """Run a command line; returns 0, 1 if a subject could not be measured, 2 if it could not
    begin.
    """
    argv = sys.argv[1:] if argv is None else argv
    arguments = command_line.parse(argv)
    if arguments.plot or arguments.html:
        figures.need_matplotlib()
    try:
        for path in arguments.data or ():
            read_labelled(path, arguments.split)
        if arguments.record:
            choose.records()  # an error now rather than when all is measured
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
        result = storage.read(arguments.json)
        other = [k for k in settings if result["settings"].get(k) != settings[k]]
        here = machine.describe()
        same = ("cpu", "cores", "features", "gpus", "packages")
        other += [k for k in same if result["machine"].get(k, []) != here[k]]
        if other:
            raise GenderEdgeError(
                f"{arguments.json} was made with other {', '.join(other)}; repeat that command, or "
                "start anew without --resume"
            )
    else:
        result = {
            "command": shlex.join(["python", "benchmarks/run.py", *argv]),
            "machine": {**machine.describe(), "peaks": probe.peaks(arguments.threads)},
            "settings": settings,
            "threads": arguments.threads,
            "variants": [],
        }
    known = {(v["name"], v["asked"]) for v in result["variants"]}
    for own in plan:
        if (own["name"], own["engine"]) not in known:
            kind = "variant" if own["kind"] == "variant" else "peer"
            row = {"name": own["name"], "asked": own["engine"], "kind": kind}
            facts = {"engine": own["engine"], "macs": own.get("macs"), "rounds": {}}
            result["variants"].append({**row, **facts})
    return result


def _measure(
    plan: list[dict[str, Any]], arguments: argparse.Namespace, result: dict[str, Any]
) -> None:
    """Everything about some subjects, which are open at the same time."""
    count = arguments.rounds
    steps: list[tuple[str, Callable[..., None]]] = [
        (f"round {n} of {count}", partial(_round, number=n)) for n in range(1, count + 1)
    ]
    steps += [("pace", _paced)] if arguments.pace else []
    steps += [("cameras", _cameras)] if arguments.cameras else []
    steps += [("accuracy", _judge)]
    with ExitStack() as stack:
        open_now = _opened(plan, arguments, result, stack)
        for what, step in steps:
            for number, (row, process) in enumerate(list(open_now), 1):
                place = f"{number}/{len(open_now)}"
                _progress(f"{what}, {place}: {row['name']} on {row['asked']}")
                try:
                    step(row, process, arguments)
                except SubjectError as error:  # it costs its own row
                    row["error"] = str(error)
                    open_now.remove((row, process))
                _finish(result, arguments)
    _progress("")


def _opened(
    plan: list[dict[str, Any]],
    arguments: argparse.Namespace,
    result: dict[str, Any],
    stack: ExitStack,
) -> list[tuple[dict[str, Any], Process]]:
    """Rows of the result and their processes, as far as they can be opened."""
    rows = {(v["name"], v["asked"]): v for v in result["variants"]}
    opened = []
    for number, description in enumerate(plan, 1):
        row = rows[description["name"], description["engine"]]
        row.pop("error", None)
        _forget_another_file(description, row)
        _progress(f"opening, {number}/{len(plan)}: {row['name']} on {row['asked']}")
        try:
            _remember(description, row, arguments)
            process = stack.enter_context(Process(description))
            row.update({k: v for k, v in process.opened.items() if k != "resident_mb"})
            opened.append((row, process))
        except SubjectError as error:
            row["error"] = str(error)
        _finish(result, arguments)
    return opened


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
    """Memory of fresh processes, one per batch size."""
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
            threads=arguments.threads,
        )
        done.append(timed)


def _paced(row: dict[str, Any], process: Process, arguments: argparse.Namespace) -> None:
    if "paced" not in row:
        row["paced"] = process.ask("paced", fps=arguments.pace, seconds=arguments.seconds)


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
    mean = measures.mean(whole) if whole else {"value": None}
    row["accuracy"] = {"measured": bool(arguments.data), **mean, "sets": parts}
    row["evaluation"] = sets


def _finish(result: dict[str, Any], arguments: argparse.Namespace) -> None:
    """After each step: the result so far is whole, and kept."""
    derived.update(result)
    if arguments.json:
        storage.write(arguments.json, result)


def _progress(text: str) -> None:
    """What is being done: one line on a terminal, nothing elsewhere but its beginning."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text[:100]}", end="", file=sys.stderr, flush=True)
    elif text.startswith(("opening", "round 1 ")):
        print(text, file=sys.stderr, flush=True)


def _write(result: dict[str, Any], arguments: argparse.Namespace) -> None:
    if arguments.save:
        target = storage.own_place(result)
        storage.write(target, result)
        print(f"benchmark: saved {target}", file=sys.stderr)
    for target, made in (
        (arguments.markdown, report.markdown),
        (arguments.csv, report.csv_text),
        (arguments.html, page.html),
    ):
        if target:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(made(result), encoding="utf-8")
    if arguments.plot:
        arguments.plot.parent.mkdir(parents=True, exist_ok=True)
        figures.save_front(result, arguments.plot)


if __name__ == "__main__":
    raise SystemExit(main())
