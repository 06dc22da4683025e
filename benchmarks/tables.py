"""A benchmark result as tables: rows of text, the first of them the head."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from benchmarks import rounds
from gender_edge import groups, zoo

RECORDED = " (recorded)"  # of the model's own evaluation, where nothing was measured now
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


def tables(result: dict[str, Any]) -> Iterator[list[tuple[str, ...]]]:
    """All tables that the result has, each with its head as the first row."""
    for table in (
        [HEAD, *rows(result)],
        set_rows(result),
        memory_rows(result),
        paced_rows(result),
        camera_rows(result),
        energy_rows(result),
    ):
        if table:
            yield table


def rows(result: dict[str, Any]) -> list[tuple[str, ...]]:
    """One row per subject and batch size, as text in the order of `HEAD`."""
    table = []
    for variant in result["variants"]:
        for row in variant.get("batches", ()):
            table.append(
                (
                    variant["name"],
                    variant["engine"],
                    str(row["batch"]),
                    f"{row['p50_ms']:.2f} ±{_half(row, 'p50_ms'):.2f}{unsteady(row)}",
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
        worst = (groups.worst_judged(judged, adults) for adults in (False, True))
        table.append((name, *cells, *map(_worst, worst)))
    return table


def summary(result: dict[str, Any]) -> list[tuple[str, ...]]:
    """What decides which network to take, the most accurate first; the first row is the head.

    On the result's first engine, and by its INT8 file where a network has one there. Nothing where
    nothing was measured.
    """
    batches = [row["batch"] for v in result["variants"] for row in v.get("batches", ())]
    if not batches:
        return []
    least, most = min(batches), max(batches)
    engine = result["variants"][0]["engine"]
    networks: dict[str, dict[str, Any]] = {}
    for variant in result["variants"]:
        network = variant["name"].rpartition("_")[0] or variant["name"]
        if variant["engine"] == engine and networks.get(network, {}).get("precision") != "int8":
            networks[network] = variant
    head = (
        *("variant", "balanced accuracy, %", "worst adults, %", "file, MB", "MMACs"),
        *(f"ms, batch {least}", f"faces/s, batch {most}", f"peak MB, batch {most}"),
    )
    return [head, *(_line(v, least, most) for v in sorted(networks.values(), key=_value)[::-1])]


def _line(variant: dict[str, Any], least: int, most: int) -> tuple[str, ...]:
    """A row of `summary`."""
    adults = groups.worst_judged(variant.get("evaluation", {}), True)
    return (
        f"{variant['name']} (default)" if variant["name"] == zoo.default() else variant["name"],
        _accuracy(variant).removesuffix(RECORDED),
        "-" if adults is None else f"{100 * adults['balanced_accuracy']['value']:.1f}",
        _scaled(variant.get("bytes"), 1e6, 2),
        _scaled(variant.get("macs"), 1e6, 0),
        _shown(variant, least, lambda row: f"{row['p50_ms']:.2f}{unsteady(row)}"),
        _shown(variant, most, lambda row: f"{row['faces_per_s']:.0f}{unsteady(row)}"),
        _shown(variant, most, lambda row: f"{row['resident_mb']['peak']:.0f}"),
    )


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


def paced_rows(result: dict[str, Any]) -> list[tuple[str, ...]]:
    """Latency and processor time of faces that come at a pace; the first row is the head, none if
    none was asked.
    """
    table = [
        (
            variant["name"],
            variant["engine"],
            f"{paced['fps']:g}",
            *(f"{paced[key]:.2f}" for key in ("p50_ms", "p99_ms")),
            f"{100 * paced['cores']:.0f}",
        )
        for variant in result["variants"]
        if (paced := variant.get("paced"))
    ]
    head = ("one at a time", "engine", "faces a second", "p50 ms", "p99 ms", "CPU, % of a core")
    return [head, *table] if table else []


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


def judged_as(variant: dict[str, Any]) -> str:
    """Whose accuracy it is: of a name where recorded, of a name and engine where measured."""
    measured = variant["accuracy"]["measured"]
    return f"{variant['name']} ({variant['engine']})" if measured else str(variant["name"])


def _accuracy(variant: dict[str, Any]) -> str:
    accuracy = variant.get("accuracy", {"value": None})
    if accuracy["value"] is None:
        return "not measured"
    return _share(accuracy) + ("" if accuracy["measured"] else RECORDED)


def _share(figure: dict[str, Any]) -> str:
    if figure["value"] is None:
        return "not measured"
    value, low, high = (f"{100 * figure[key]:.1f}" for key in ("value", "low", "high"))
    return f"{value} ({low}-{high})"


def _worst(worst: dict[str, Any] | None) -> str:
    if worst is None:
        return "-"
    return f"{_share(worst['balanced_accuracy'])}: {worst['group']}, {worst['set']}"


def _value(variant: dict[str, Any]) -> float:
    """Its accuracy; 0 where that was not measured."""
    return variant.get("accuracy", {}).get("value") or 0.0


def _shown(variant: dict[str, Any], batch: int, show: Callable[[dict[str, Any]], str]) -> str:
    """A cell of one batch size."""
    row = next((r for r in variant.get("batches", ()) if r["batch"] == batch), None)
    if row is None:
        return "failed" if "error" in variant else "-"
    return show(row)


def unsteady(row: dict[str, Any]) -> str:
    """A mark for what was measured too unsteadily to be ranked."""
    return " *" if rounds.spread(row) > rounds.WIDE else ""


def _half(row: dict[str, Any], key: str) -> float:
    low, high = row["interval"][key]
    return float(high - low) / 2


def _scaled(value: float | None, unit: float, digits: int) -> str:
    return "-" if value is None else f"{value / unit:.{digits}f}"
