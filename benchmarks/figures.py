"""Plots of a benchmark result: what a millisecond, a megabyte of memory or of file buys."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gender_edge import host

OURS, BEATEN, PEER = "#2b6cb0", "#a0aec0", "#c05621"
PANELS = 4  # side by side
# Where a name may stand beside its point, in points of print, the nearest first.
PLACES = sorted(
    ((x, y) for x in range(-100, 101, 20) for y in range(-100, 101, 6) if abs(y) > 16),
    key=lambda place: (place[0] / 2) ** 2 + place[1] ** 2,
)
SIDES = ("female_right", "male_right")


@dataclass(frozen=True)
class Axis:
    """What a plot's x stands for: its label and scale, and its value of a subject."""

    label: str
    scale: str
    value: Callable[[dict[str, Any]], float]


AXES = {
    "latency": Axis(
        "latency of the smallest batch, ms (p50, log scale)",
        "log",
        lambda v: v["batches"][0]["p50_ms"],
    ),
    "memory": Axis(
        "resident memory at its peak, MB",
        "linear",
        lambda v: v["batches"][0]["resident_mb"]["peak"],
    ),
    "size": Axis("file, MB (log scale)", "log", lambda v: v["bytes"] / 1e6),
}


def need_matplotlib() -> None:
    """Stop at once, and not after minutes of measuring, where it is not installed."""
    if importlib.util.find_spec("matplotlib") is None:
        raise SystemExit(
            "a plot needs matplotlib, which the runtime does not install: pip install "
            "'gender_edge[bench]'"
        )


def shown(result: dict[str, Any]) -> list[dict[str, Any]]:
    """The subjects that have both speed and accuracy."""
    return [
        v
        for v in result["variants"]
        if v.get("batches") and v.get("accuracy", {}).get("value") is not None
    ]


def computed_on(result: dict[str, Any], variants: Sequence[dict[str, Any]]) -> str:
    """What some of a result's rows ran on: the processor, or the GPUs, or both."""
    machine = result["machine"]
    processor = f"{host.titled(machine['cpu'], machine['features'])}, {machine['cores']} cores"
    places = [v["gpu"]["name"] if v.get("gpu") else processor for v in variants]
    return " and ".join(dict.fromkeys(places)) or processor


def save_front(result: dict[str, Any], path: Path) -> None:
    """Balanced accuracy against latency, a panel an engine, as a file.

    Raises:
        SystemExit: matplotlib is not installed, or there is nothing to plot.
    """
    need_matplotlib()
    variants = shown(result)
    if not variants:
        raise SystemExit("--plot: no variant has both a latency and an accuracy; give --data")
    figure = front(result, "latency", sorted({v["engine"] for v in variants}))
    figure.savefig(path, dpi=130)


def front(result: dict[str, Any], axis: str, engines: Sequence[str]) -> Any:
    """A figure of balanced accuracy against latency, memory or size, with the Pareto front."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    along = AXES[axis]
    most = max(sum(v["engine"] == engine for v in shown(result)) for engine in engines)
    size = (max(8, 5.4 * len(engines)), max(4.6, 0.6 * most))  # names want room
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(1, len(engines), sharex=True, sharey=True, squeeze=False)[0]
    for panel, engine in zip(panels, engines):
        own = [v for v in shown(result) if v["engine"] == engine]
        _panel(panel, [(along.value(v), v) for v in own], along.scale)
        panel.set_title(f"{computed_on(result, own)}, {engine}")
    figure.supxlabel(along.label + ("" if axis == "size" else "; area: file size"))
    panels[0].set_ylabel("balanced accuracy, % (bars: 95 % interval)")
    FigureCanvasAgg(figure)
    figure.draw_without_rendering()  # now every point has its place
    figure.set_layout_engine("none")
    for panel, engine in zip(panels, engines):
        _name(panel, [(along.value(v), v) for v in shown(result) if v["engine"] == engine])
    return figure


def _panel(axis: Any, placed: list[tuple[float, dict[str, Any]]], scale: str) -> None:
    """One engine's subjects, and the front that no other of them beats."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    placed = sorted(placed, key=lambda pair: pair[0])
    points = [(x, 100 * v["accuracy"]["value"]) for x, v in placed]
    best = pareto(points)
    axis.plot(*zip(*best), color=OURS, lw=1.5, alpha=0.6, zorder=1)
    for (_, variant), point in zip(placed, points):
        color = PEER if variant.get("kind") == "peer" else OURS if point in best else BEATEN
        low, high = (100 * variant["accuracy"][end] for end in ("low", "high"))
        bar = [[point[1] - low], [high - point[1]]]
        axis.errorbar(*point, bar, color=color, alpha=0.5, lw=1)
        megabytes = variant["bytes"] / 1e6
        axis.scatter(*point, s=30 + 25 * megabytes, color=color, alpha=0.85, zorder=2)
    axis.set_xscale(scale)
    axis.margins(0.2, 0.25)
    if scale == "log":
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.xaxis.set_minor_formatter(NullFormatter())
    axis.tick_params(axis="x", which="minor", labelsize=7)
    _plain(axis)


def _name(panel: Any, placed: Sequence[tuple[float, dict[str, Any]]]) -> None:
    """Put the names of subjects as near to their points as they cover neither each other nor other
    points, with a thin line to the point.
    """
    from matplotlib.text import Text

    renderer = panel.figure.canvas.get_renderer()
    points = [(x, 100 * v["accuracy"]["value"]) for x, v in placed]
    taken = [_around(panel.transData.transform(point)) for point in points]
    for point, (_, variant) in zip(points, placed):
        text = panel.annotate(
            f"{variant['name']}\n{variant['bytes'] / 1e6:.1f} MB",
            point,
            xytext=PLACES[0],
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=8,
            arrowprops={"arrowstyle": "-", "lw": 0.5, "alpha": 0.5},
        )
        for place in PLACES:
            text.set_position(place)
            text.update_positions(renderer)
            box = Text.get_window_extent(text, renderer)  # without the line
            corners = [(box.x0, box.y0), (box.x1, box.y1)]
            inside = all(panel.bbox.contains(*corner) for corner in corners)
            if inside and not box.count_overlaps(taken):
                break
        taken.append(box)


def _around(point: Any) -> Any:
    from matplotlib.transforms import Bbox

    (x, y), reach = point, 5  # px
    return Bbox([[x - reach, y - reach], [x + reach, y + reach]])


def _plain(axis: Any) -> None:
    axis.grid(alpha=0.25, which="both")
    axis.spines[["top", "right"]].set_visible(False)


def pareto(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points that no other beats in both coordinates, the least first."""
    best: list[tuple[float, float]] = []
    for point in sorted(points, key=lambda p: (p[0], -p[1])):
        if not best or point[1] > best[-1][1]:
            best.append(point)
    return best


def groups(judged: dict[str, dict[str, Any]], dataset: str) -> Any:
    """Accuracy of women and men in every group of one set: a panel a subject, a bar each.

    Args:
        judged: figures of `evaluation.report` by set, by subject.
    """
    from matplotlib.figure import Figure

    own = {name: sets[dataset]["groups"] for name, sets in judged.items() if dataset in sets}
    own = {name: rows for name, rows in own.items() if rows}
    if not own:
        return None
    names = [row["group"] for row in max(own.values(), key=len)]
    lines = -(-len(own) // PANELS)
    columns = -(-len(own) // lines)
    figure = Figure(figsize=(9, lines * (1.2 + 0.34 * len(names))), layout="constrained")
    panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for panel, (name, rows) in zip(panels, own.items()):
        for offset, side, color in zip((-0.18, 0.18), SIDES, ("#97266d", OURS)):
            for row in rows:
                share = row[side]
                if share["value"] is None:
                    continue
                place = names.index(row["group"]) + offset
                panel.barh(place, 100 * share["value"], 0.34, color=color, alpha=0.8)
                panel.plot([100 * share["low"], 100 * share["high"]], [place] * 2, "k", lw=1)
        panel.set_yticks(range(len(names)), names)
        panel.set_title(name.replace(" (", "\n("), fontsize=9)
        _plain(panel)
    for panel in panels[len(own) :]:
        panel.set_axis_off()
    lowest = min(r[s]["low"] or 0 for rows in own.values() for r in rows for s in SIDES)
    panels[0].set_xlim(min(50, 100 * lowest), 100)
    panels[0].invert_yaxis()
    figure.supxlabel(f"{dataset}: right, % (upper bar: labelled female; lower: male)", fontsize=9)
    return figure


def curves(judged: dict[str, dict[str, Any]], dataset: str) -> Any:
    """Risk against coverage, and how often an answer of a given confidence is right."""
    import matplotlib
    from matplotlib.figure import Figure

    judged = {name: sets for name, sets in judged.items() if dataset in sets}
    figure = Figure(figsize=(9, max(3.6, 0.9 + 0.2 * len(judged))), layout="constrained")
    risk, reliable = figure.subplots(1, 2)
    colors = matplotlib.colormaps["turbo"].resampled(max(2, len(judged)))
    for number, (name, sets) in enumerate(judged.items()):
        points = sets[dataset]["risk_coverage"]
        coverage, wrong = [p["coverage"] for p in points], [100 * p["risk"] for p in points]
        risk.plot(coverage, wrong, label=name, color=colors(number))
        bins = sets[dataset].get("reliability", ())
        confidence, right = [b["confidence"] for b in bins], [b["right"] for b in bins]
        reliable.plot(confidence, right, marker=".", color=colors(number))
    reliable.plot([0.5, 1], [0.5, 1], color=BEATEN, lw=1)
    risk.set(xlabel="share answered, the most confident first", ylabel="wrong, %", title=dataset)
    reliable.set(xlabel="confidence", ylabel="share right", title="calibration")
    figure.legend(fontsize=8, loc="outside right upper")
    for axis in (risk, reliable):
        _plain(axis)
    return figure
