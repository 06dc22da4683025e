"""A benchmark result as a table, as Markdown, as a plot, and in the README between its marks."""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
from pathlib import Path
from typing import Any

START, END = "<!-- benchmark table: start -->", "<!-- benchmark table: end -->"
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
    "accuracy, %",
)


def rows(result: dict[str, Any]) -> list[tuple[str, ...]]:
    """A row a variant and batch size, as text in the order of `HEAD`."""
    table = []
    for variant in result["variants"]:
        if "error" in variant:
            cells = ["-"] * (len(HEAD) - 3)
            table.append((variant["name"], variant["engine"], *cells, variant["error"]))
            continue
        accuracy = variant["accuracy"]
        for row in variant["batches"]:
            table.append(
                (
                    variant["name"],
                    variant["engine"],
                    str(row["batch"]),
                    *(f"{row[key]:.2f}" for key in ("p50_ms", "p90_ms", "p99_ms")),
                    f"{row['faces_per_s']:.0f}",
                    f"{row['resident_mb']['peak']:.0f}",
                    f"{variant['parameters'] / 1e6:.2f}",
                    f"{variant['macs'] / 1e6:.0f}",
                    f"{variant['bytes'] / 1e6:.2f}",
                    _share(accuracy) + ("" if accuracy["measured"] else " (recorded)"),
                )
            )
    return table


def _share(figure: dict[str, Any]) -> str:
    if figure["value"] is None:
        return "not measured"
    return " ".join(
        [f"{100 * figure['value']:.1f}", f"({100 * figure['low']:.1f}-{100 * figure['high']:.1f})"]
    )


def set_rows(result: dict[str, Any]) -> list[tuple[str, ...]]:
    """Recorded balanced accuracy of every variant on each test set; the first row is the head."""
    recorded = [v for v in result["variants"] if v.get("accuracy", {}).get("sets")]
    names = list(dict.fromkeys(name for v in recorded for name in v["accuracy"]["sets"]))
    table: list[tuple[str, ...]] = [("balanced accuracy, %", *names)] if recorded else []
    for variant in {v["name"]: v for v in recorded}.values():  # the same for every engine
        sets = variant["accuracy"]["sets"]
        cells = (_share(sets[name]) if name in sets else "-" for name in names)
        table.append((variant["name"], *cells))
    return table


def text(result: dict[str, Any]) -> str:
    """Aligned tables for a terminal."""
    parts = ["\n".join(_aligned([HEAD, *rows(result)]))]
    if sets := set_rows(result):
        parts.append("\n".join(_aligned(sets)))
    return "\n\n".join([*parts, caption(result)])


def _aligned(lines: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    aligned = []
    for line in lines:
        cells = [c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths))]
        aligned.append("  ".join(cells).rstrip())
    return aligned


def markdown(result: dict[str, Any]) -> str:
    """The same tables in Markdown."""
    tables = [table for table in ([HEAD, *rows(result)], set_rows(result)) if table]
    return "\n\n".join(["\n".join(_piped(table)) for table in tables] + [caption(result)]) + "\n"


def _piped(table: list[tuple[str, ...]]) -> list[str]:
    lines = ["| " + " | ".join(row) + " |" for row in table]
    return [lines[0], "|---|" + "---:|" * (len(table[0]) - 1), *lines[1:]]


def caption(result: dict[str, Any]) -> str:
    """What was measured, on what, and how."""
    machine = result["machine"]
    packages = ", ".join(f"{k} {v}" for k, v in machine["packages"].items())
    threads = result["threads"] or "all"
    return (
        f"{machine['cpu']}, {machine['cores']} cores ({', '.join(machine['features'])}), "
        f"{machine['system']}, Python {machine['python']}, {packages}; threads: {threads}. "
        "The clock runs from uint8 crops in memory to predictions; peak MB is the resident set of "
        "a process of its own. "
        f"{result['accuracy_note']} Made by `{result['command']}`."
    )


def need_matplotlib() -> None:
    """Stop at once, and not after minutes of measuring, where it is not installed."""
    if importlib.util.find_spec("matplotlib") is None:
        raise SystemExit(
            "a plot needs matplotlib, which the runtime does not install: pip install "
            "'gender_edge[bench]'"
        )


def plot(result: dict[str, Any], path: Path) -> None:
    """Balanced accuracy against latency at the smallest batch, with the Pareto front.

    Raises:
        SystemExit: matplotlib is not installed.
    """
    need_matplotlib()
    from matplotlib.figure import Figure

    shown = [v for v in result["variants"] if v.get("accuracy", {}).get("value") is not None]
    if not shown:
        raise SystemExit("--plot: no variant has both a latency and an accuracy; give --data")
    engines = sorted({v["engine"] for v in shown})
    figure = Figure(figsize=(max(8, 5.4 * len(engines)), 4.6), layout="constrained")
    panels = figure.subplots(1, len(engines), sharex=True, sharey=True, squeeze=False)[0]
    for axis, engine in zip(panels, engines):
        _panel(axis, [v for v in shown if v["engine"] == engine])
        axis.set_title(f"{result['machine']['cpu']}, {result['machine']['cores']} cores, {engine}")
    batch = min(row["batch"] for v in shown for row in v["batches"])
    figure.supxlabel(f"latency of a batch of {batch}, ms (p50, log scale); area: file size")
    panels[0].set_ylabel("balanced accuracy, % (bars: 95 % interval)")
    figure.savefig(path, dpi=130)


def _panel(axis: Any, variants: list[dict[str, Any]]) -> None:
    """One engine's variants, and the front that no other of them beats."""
    from matplotlib.ticker import FuncFormatter

    variants = sorted(variants, key=lambda v: v["batches"][0]["p50_ms"])
    points = [(v["batches"][0]["p50_ms"], 100 * v["accuracy"]["value"]) for v in variants]
    front = pareto(points)
    axis.plot(*zip(*front), color="#2b6cb0", lw=1.5, alpha=0.6, zorder=1)
    middle = sorted(point[1] for point in points)[len(points) // 2]
    above = [point[1] >= middle for point in points]
    for number, (variant, point) in enumerate(zip(variants, points)):
        color = "#2b6cb0" if point in front else "#a0aec0"
        low, high = (100 * variant["accuracy"][end] for end in ("low", "high"))
        bar = [[point[1] - low], [high - point[1]]]
        axis.errorbar(*point, bar, color=color, alpha=0.5, lw=1)
        megabytes = variant["bytes"] / 1e6
        axis.scatter(*point, s=30 + 25 * megabytes, color=color, alpha=0.85, zorder=2)
        # Names stand above or below, and away from the next point on the same side.
        up, rank = above[number], above[:number].count(above[number])
        axis.annotate(
            f"{variant['name']}\n{megabytes:.1f} MB",
            point,
            textcoords="offset points",
            xytext=(0, (1 if up else -1) * (8 + 2 * megabytes**0.5)),
            ha="right" if rank < above.count(up) / 2 else "left",
            va="bottom" if up else "top",
            fontsize=8,
        )
    axis.set_xscale("log")
    axis.margins(0.2, 0.15)
    for which in (axis.xaxis.set_major_formatter, axis.xaxis.set_minor_formatter):
        which(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.tick_params(axis="x", which="minor", labelsize=7)
    axis.grid(alpha=0.25, which="both")
    axis.spines[["top", "right"]].set_visible(False)


def pareto(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points that no other beats in both latency and accuracy, fastest first."""
    front: list[tuple[float, float]] = []
    for point in sorted(points, key=lambda p: (p[0], -p[1])):
        if not front or point[1] > front[-1][1]:
            front.append(point)
    return front


def update_readme(readme: Path, result: dict[str, Any]) -> None:
    """Put the table of a result between the marks of a README."""
    page = readme.read_text()
    pattern = re.compile(f"{re.escape(START)}.*?{re.escape(END)}", re.DOTALL)
    if not pattern.search(page):
        raise SystemExit(f"{readme}: has no {START} and {END}; put them where the table belongs")
    readme.write_text(pattern.sub(lambda _: f"{START}\n{markdown(result)}{END}", page))


def main() -> int:
    """`python benchmarks/report.py RESULT.json --readme README.md --plot FILE`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("result", type=Path)
    parser.add_argument("--readme", type=Path)
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    result = json.loads(arguments.result.read_text())
    if arguments.readme:
        update_readme(arguments.readme, result)
    if arguments.plot:
        plot(result, arguments.plot)
    print(text(result))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
