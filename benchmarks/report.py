"""A benchmark result as a table for people, as Markdown, as CSV, and in the README."""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a file: make the folder above importable
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import derived, dominance, figures, rounds
from benchmarks.scenarios import CLOCKS
from gender_edge import evaluation, host

START, END = "<!-- benchmark table: start -->", "<!-- benchmark table: end -->"
GPU = "{name} (compute capability {compute_capability}, driver for CUDA {driver_cuda})"
HEAD = (
    "variant",
    "engine",
    "batch",
    "p50 ms",
    "p90 ms",
    "p99 ms",
    "faces/s",
    "peak MB",
    "M param.",
    "MMACs",
    "file MB",
    "of roofline, %",
    "accuracy, %",
)


def rows(result: dict[str, Any]) -> list[tuple[str, ...]]:
    """A row a subject and batch size, as text in the order of `HEAD`."""
    table = []
    for variant in result["variants"]:
        for row in variant.get("batches", ()):
            table.append(
                (
                    variant["name"],
                    variant["engine"],
                    str(row["batch"]),
                    f"{row['p50_ms']:.2f} ±{_half(row, 'p50_ms'):.2f}{_unsteady(row)}",
                    *(f"{row[key]:.2f}" for key in ("p90_ms", "p99_ms")),
                    f"{row['faces_per_s']:.0f}",
                    f"{row['resident_mb']['peak']:.0f}",
                    _scaled(variant.get("parameters"), 1e6, 2),
                    _scaled(variant.get("macs"), 1e6, 0),
                    _scaled(variant.get("bytes"), 1e6, 2),
                    _scaled(row["roofline"], 0.01, 0),
                    _accuracy(variant),
                )
            )
        if "error" in variant:
            cells = ["-"] * (len(HEAD) - 3)
            reason = " ".join(variant["error"].split())
            table.append((variant["name"], variant["engine"], *cells, reason))
    return table


def _unsteady(row: dict[str, Any]) -> str:
    """A mark for what was measured too unsteadily to be ranked."""
    return " *" if rounds.spread(row) > rounds.WIDE else ""


def _half(row: dict[str, Any], key: str) -> float:
    low, high = row["interval"][key]
    return float(high - low) / 2


def _scaled(value: float | None, unit: float, digits: int) -> str:
    return "-" if value is None else f"{value / unit:.{digits}f}"


def _accuracy(variant: dict[str, Any]) -> str:
    accuracy = variant.get("accuracy", {"value": None})
    if accuracy["value"] is None:
        return "not measured"
    return _share(accuracy) + ("" if accuracy["measured"] else " (recorded)")


def judged_as(variant: dict[str, Any]) -> str:
    """Whose accuracy it is: of a name where recorded, of a name and engine where measured."""
    measured = variant["accuracy"]["measured"]
    return f"{variant['name']} ({variant['engine']})" if measured else str(variant["name"])


def camera_rows(result: dict[str, Any]) -> list[tuple[str, ...]]:
    """How many cameras each subject serves; the first row is the head, none if none was asked."""
    table = []
    for variant in result["variants"]:
        if stream := variant.get("cameras"):
            load = f"{stream['fps']:g} fps, {stream['faces']} faces, {stream['deadline_ms']:.0f} ms"
            served = (stream["clock"], load, str(stream["cameras"]))
            table.append((variant["name"], variant["engine"], *served))
    head = ("variant", "engine", "clock", "each frame within, at the 99th percentile", "cameras")
    return [head, *table] if table else []


def energy_rows(result: dict[str, Any]) -> list[tuple[str, ...]]:
    """Energy of the whole machine for a face, where it is counted; the first row is the head."""
    table = [
        (variant["name"], variant["engine"], str(row["batch"]), f"{row['mj_per_face']:.2f}")
        for variant in result["variants"]
        for row in variant.get("batches", ())
        if row.get("mj_per_face")
    ]
    return [("variant", "engine", "batch", "mJ a face"), *table] if table else []


def memory_rows(result: dict[str, Any]) -> list[tuple[str, ...]]:
    """Resident memory of a fresh process, and what each step adds; the first row is the head."""
    table = []
    for variant in result["variants"]:
        for row in variant.get("batches", ()):
            held = row["resident_mb"]
            if "python" not in held:  # a result of before that was measured
                continue
            steps = [held[key] for key in ("python", "import", "load", "peak")]
            added = (f"+{after - before:.0f}" for before, after in zip(steps, steps[1:]))
            device = _scaled(held["device_mb"], 1, 0)
            start = (variant["name"], variant["engine"], str(row["batch"]), f"{steps[0]:.0f}")
            table.append((*start, *added, f"{steps[-1]:.0f}", device))
    head = ("memory, MB", "engine", "batch", "Python", "import", "load", "run", "peak", "GPU")
    return [head, *table] if table else []


def _share(figure: dict[str, Any]) -> str:
    if figure["value"] is None:
        return "not measured"
    return " ".join(
        [f"{100 * figure['value']:.1f}", f"({100 * figure['low']:.1f}-{100 * figure['high']:.1f})"]
    )


def set_rows(result: dict[str, Any]) -> list[tuple[str, ...]]:
    """Balanced accuracy of every variant on each test set, and on the people that it judges worst
    in any of them, and worst among adults; the first row is the head.
    """
    recorded = [v for v in result["variants"] if v.get("accuracy", {}).get("sets")]
    names = list(dict.fromkeys(name for v in recorded for name in v["accuracy"]["sets"]))
    head = ("balanced accuracy, %", *names, "worst group", "worst adults")
    table: list[tuple[str, ...]] = [head] if recorded else []
    for name, own in {judged_as(v): v for v in recorded}.items():
        sets = own["accuracy"]["sets"]
        cells = (_share(sets[part]) if part in sets else "-" for part in names)
        judged = own.get("evaluation", {})
        worst = (evaluation.worst_judged(judged, adults) for adults in (False, True))
        table.append((name, *cells, *map(_worst, worst)))
    return table


def _worst(worst: dict[str, Any] | None) -> str:
    if worst is None:
        return "-"
    return f"{_share(worst['balanced_accuracy'])}: {worst['group']}, {worst['set']}"


def tables(result: dict[str, Any]) -> Iterator[list[tuple[str, ...]]]:
    """All tables that the result has, each with its head as the first row."""
    for table in (
        [HEAD, *rows(result)],
        set_rows(result),
        memory_rows(result),
        camera_rows(result),
        energy_rows(result),
    ):
        if table:
            yield table


def text(result: dict[str, Any]) -> str:
    """Aligned tables for a terminal."""
    parts = ["\n".join(aligned(table)) for table in tables(result)]
    return "\n\n".join([*parts, caption(result)])


def aligned(lines: list[tuple[str, ...]]) -> list[str]:
    """Rows as lines of equally wide columns, the first of them flush left."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    rows = []
    for line in lines:
        cells = [c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths))]
        rows.append("  ".join(cells).rstrip())
    return rows


def markdown(result: dict[str, Any]) -> str:
    """The same tables in Markdown."""
    piped = ["\n".join(_piped(table)) for table in tables(result)]
    return "\n\n".join([*piped, caption(result)]) + "\n"


def summary(result: dict[str, Any]) -> list[tuple[str, ...]]:
    """A line a subject, the most accurate first, with what decides which one to take; the first
    row is the head. Nothing where nothing was measured.
    """
    batches = [row["batch"] for v in result["variants"] for row in v.get("batches", ())]
    if not batches:
        return []
    least, most = min(batches), max(batches)
    columns = [
        (f"ms, batch {least}", least, lambda row: f"{row['p50_ms']:.2f}{_unsteady(row)}"),
        (f"faces/s, batch {most}", most, lambda row: f"{row['faces_per_s']:.0f}{_unsteady(row)}"),
        (f"peak MB, batch {most}", most, lambda row: f"{row['resident_mb']['peak']:.0f}"),
    ]
    engines = list(dict.fromkeys(variant["engine"] for variant in result["variants"]))
    names = [f"{title}, {engine}" for title, _, _ in columns for engine in engines]
    subjects: dict[str, dict[str, dict[str, Any]]] = {}
    for variant in result["variants"]:
        subjects.setdefault(variant["name"], {})[variant["engine"]] = variant
    lines = []
    for name, own in subjects.items():
        best = max(own.values(), key=_value)
        cells = [name, _accuracy(best), _scaled(best.get("bytes"), 1e6, 2)]
        cells.append(_scaled(best.get("macs"), 1e6, 0))
        for _, batch, show in columns:
            cells += [_shown(own.get(engine, {}), batch, show) for engine in engines]
        lines.append((_value(best), tuple(cells)))
    lines.sort(key=lambda line: -line[0])
    return [("variant", "accuracy, %", "file MB", "MMACs", *names), *(cells for _, cells in lines)]


def _value(variant: dict[str, Any]) -> float:
    """Its accuracy; 0 where that was not measured."""
    return variant.get("accuracy", {}).get("value") or 0.0


def _shown(variant: dict[str, Any], batch: int, show: Callable[[dict[str, Any]], str]) -> str:
    """A cell of one batch size."""
    row = next((r for r in variant.get("batches", ()) if r["batch"] == batch), None)
    if row is None:
        return "failed" if "error" in variant else "-"
    return show(row)


def csv_text(result: dict[str, Any]) -> str:
    """A line a subject and batch size, figures unrounded, for a spreadsheet."""
    flat = [
        {
            **{k: variant.get(k) for k in ("name", "engine", "kind", "precision", "input_size")},
            **{k: variant.get(k) for k in ("parameters", "macs", "bytes", "error")},
            "accuracy": variant.get("accuracy", {}).get("value"),
            **{k: v for k, v in row.items() if not isinstance(v, dict)},
            "peak_mb": (row.get("resident_mb") or {}).get("peak"),
        }
        for variant in result["variants"]
        for row in variant.get("batches") or [{}]
    ]
    file = io.StringIO()
    writer = csv.DictWriter(file, list(dict.fromkeys(key for line in flat for key in line)))
    writer.writeheader()
    writer.writerows(flat)
    return file.getvalue()


def _piped(table: list[tuple[str, ...]]) -> list[str]:
    escaped = ([cell.replace("|", "\\|") for cell in row] for row in table)
    lines = ["| " + " | ".join(row) + " |" for row in escaped]
    return [lines[0], "|---|" + "---:|" * (len(table[0]) - 1), *lines[1:]]


def caption(result: dict[str, Any]) -> str:
    """What was measured, on what, and how."""
    machine, settings = result["machine"], result["settings"]
    packages = ", ".join(f"{k} {v}" for k, v in machine["packages"].items())
    return (
        f"{machine['cpu']}, {machine['cores']} cores ({', '.join(machine['features'])}), "
        f"{machine['system']}, Python {machine['python']}, {packages}; "
        f"threads: {result['threads'] or 'all'}{_state(machine)}.{_gpus(result)} "
        f"The clock: {CLOCKS[settings['clock']]}.{_bfloat16(result)} "
        f"Medians of {settings['rounds']} rounds over all rows, ± half of what lies between the "
        f"fastest and the slowest round{_too_wide(result)}; a classifier's `batch_size` is the "
        f"largest batch; peak MB is the resident set of a "
        f"process of its own. {_roofline(result)}{result['accuracy_note']} "
        f"{dominance.sentences(result)}"
        f"Made by `{result['command']}`."
    )


def _state(machine: dict[str, Any]) -> str:
    """What else decided how fast the processor was, as far as it tells."""
    power = "".join(f", {name} {value}" for name, value in machine["power"].items())
    return f"{power}, load before {machine['load_before'][0]:g}"


def _too_wide(result: dict[str, Any]) -> str:
    measured = [row for variant in result["variants"] for row in variant.get("batches", ())]
    wide = sum(bool(_unsteady(row)) for row in measured)
    if not wide:
        return ""
    return (
        f" (more than {100 * rounds.WIDE:.0f} % apart in {wide} of {len(measured)} rows, marked *, "
        "which are not fit to be ranked)"
    )


def _roofline(result: dict[str, Any]) -> str:
    """The peaks, where a row was compared with them."""
    rows = [(v, row) for v in result["variants"] for row in v.get("batches", ())]
    compared = {bool(v.get("gpu")) for v, row in rows if row["roofline"] is not None}
    peaks, gpu = result["machine"]["peaks"], result["machine"].get("gpu_peaks", {})
    said = ""
    if False in compared:
        integer = f"{peaks['int8_gmacs']:.0f} in INT8, " if "int8_gmacs" in peaks else ""
        said += (
            f"Roofline: {peaks['gemm_gmacs']:.0f} GMAC/s of a GEMM in FP32, {integer}and "
            f"{peaks['copy_gb_s']:.0f} GB/s of a copy, measured at the start. "
        )
    if True in compared:
        products = ", ".join(
            f"{gpu[f'{kind}_gmacs']:.0f} GMAC/s in {kind.upper()}"
            for kind in ("fp16", "int8")
            if f"{kind}_gmacs" in gpu
        )
        said += (
            f"Roofline on the GPU: {products}, of PyTorch's matrix products, and "
            f"{gpu['upload_gb_s']:.0f} GB/s over the bus. "
        )
    return said


def _gpus(result: dict[str, Any]) -> str:
    """The GPUs that rows ran on, and what ran there; nothing where all ran on the processor."""
    engines: dict[str, list[str]] = {}
    for variant in result["variants"]:
        if gpu := variant.get("gpu"):
            engines.setdefault(GPU.format_map(gpu), []).append(variant["backend"])
    return "".join(
        f" On {gpu}: {', '.join(dict.fromkeys(found))}." for gpu, found in engines.items()
    )


def _bfloat16(result: dict[str, Any]) -> str:
    """An engine may compute FP32 files in fewer bits, which their names do not tell."""
    narrow = [v["name"] for v in result["variants"] if "bf16" in v.get("provider", "")]
    if not narrow:
        return ""
    return f" OpenVINO computed in bfloat16: {', '.join(dict.fromkeys(narrow))}."


def for_readme(result: dict[str, Any], details: str) -> str:
    """What a README shows of a result, in Markdown, with a link to all its tables."""
    machine = result["machine"]
    packages = ", ".join(f"{k} {v}" for k, v in machine["packages"].items())
    piped = ["\n".join(_piped(table)) for table in (summary(result), set_rows(result)) if table]
    note = (
        f"{host.titled(machine['cpu'], machine['features'])}, {machine['cores']} cores, "
        f"{packages}."
        f"{_gpus(result)} The clock: {CLOCKS[result['settings']['clock']]}.{_bfloat16(result)} "
        f"Medians over rounds; * where those were more than "
        f"{100 * rounds.WIDE:.0f} % apart, which is not fit to be ranked. Accuracy: mean balanced "
        f"accuracy over the test sets, with its 95 % interval. {dominance.sentences(result)}"
        "Percentiles, memory by step, the distance to the machine's peaks and how all this was "
        f"measured: [{Path(details).name}]({details})."
    )
    return "\n\n".join([*piped, note])


def update_readme(readme: Path, text: str) -> None:
    """Put what `for_readme` gave between the marks of a README."""
    page = readme.read_text()
    pattern = re.compile(f"{re.escape(START)}.*?{re.escape(END)}", re.DOTALL)
    if not pattern.search(page):
        raise SystemExit(f"{readme}: has no {START} and {END}; put them where the table belongs")
    readme.write_text(pattern.sub(lambda _: f"{START}\n{text}\n{END}", page))


def main() -> int:
    """`python benchmarks/report.py RESULT.json --readme README.md --plot FILE`.

    All tables go to RESULT.md beside it, which the README names.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("result", type=Path)
    parser.add_argument("--readme", type=Path)
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    result = json.loads(arguments.result.read_text())
    derived.update(result)  # a result of before may say less
    if arguments.readme:
        details = arguments.result.with_suffix(".md")
        details.write_text(markdown(result))
        home = arguments.readme.resolve().parent
        update_readme(arguments.readme, for_readme(result, os.path.relpath(details, home)))
    if arguments.plot:
        figures.save_front(result, arguments.plot)
    print(text(result))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
