"""The reference systems of the field beside what is shipped: one table from run folders.

A row says whose protocol it is, what of it differs here, and how many of its epochs were run. A
reference that was not run says so. A row outlives its run folder: a table made before keeps it.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Optional

import numpy as np

from gender_edge import host
from gender_edge.errors import DataError
from gender_edge.zoo import EVALUATION, MODEL, REGISTRY

from . import recipe
from .data.prepare import stem
from .evaluation.latency import ROUNDS, latencies
from .recipe import Recipe, start_of
from .runs import AFTER_TRAINING, CONFIG, config, differing, trained_by

MAIN = "celeba_test"  # the set that most references state a figure for
BASELINE = "slim_int8"
HEAD = ("reference", "published", "epochs", "pictures", "start", "trained on", "input")
ON_MAIN = ("accuracy", "loss", "confusion", f"balanced {MAIN}")
COST = ("M param.", "MMACs", "ms a face", f"of {BASELINE}")


def references() -> list[Recipe]:
    """The recipes in `recipes/references` that state a protocol, in order of their names."""
    loaded = [recipe.load(name) for name in recipe.names() if name.startswith("references/")]
    return [own for own in loaded if own.protocol]


def compare(
    recipes: Sequence[Recipe], runs: Path, models: Path, before: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    """Gather all rows, and time every network there is side by side; plain values for JSON.

    Args:
        runs: the folder of runs.
        models: the folder of shipped models, whose classifiers make the last rows.
        before: rows of an earlier table. One whose run is gone, or is on its way again, stays,
            marked as kept, as long as its recipe trains the same.
    """
    earlier = {row["name"]: row for row in before if row.get("state") == "run"}
    rows = [_kept(_reference(own, runs / own.name), earlier.get(own.name)) for own in recipes]
    registry = models / REGISTRY
    shipped = json.loads(registry.read_text())["models"] if registry.exists() else ()
    rows += [_shipped(models / name) for name in shipped]
    files = {row["name"]: Path(row.pop("file")) for row in rows if "file" in row}
    times, processor = latencies(files), host.described()
    for row in rows:
        own, base = times.get(row["name"]), times.get(BASELINE)
        if own is not None:
            row |= {"ms": float(np.median(own)), "processor": processor}
        if own is not None and base is not None:
            row["of_baseline"] = float(np.median(own / base))
    return {"processor": processor, "rows": rows}


def _kept(row: dict[str, Any], earlier: Optional[Mapping[str, Any]]) -> dict[str, Any]:
    """A row, with the figures of an earlier one where it has none itself."""
    if row["state"] == "run" or earlier is None or earlier.get("recipe") != row["recipe"]:
        return row
    return {**earlier, **row, "state": "run", "kept": True}


def _reference(wanted: Recipe, run: Path) -> dict[str, Any]:
    row = {"name": wanted.name, "published": wanted.published, "protocol": wanted.protocol}
    row["recipe"] = _fingerprint(wanted)
    if not (run / CONFIG).exists():
        return {**row, "state": "not run"}
    own = config(run)
    # A run may stop early (--epochs) or start elsewhere (--init); the row tells both.
    asked = replace(wanted, sizes=wanted.sizes[: len(own["sizes"])], init=own["init"])
    if other := differing(asked, run):
        return {**row, "state": f"run of another recipe ({', '.join(sorted(other))})"}
    if not (run / "fp32" / EVALUATION).exists():
        return {**row, "state": "not finished"}
    return {
        **row,
        "state": "run",
        "epochs": asked.epochs,
        "epochs_asked": wanted.epochs,
        "pictures": _pictures(wanted, run),
        "start": _start(own["init"], run.parent),
        "device": trained_by(run),
        **_figures(run / "fp32"),
    }


def _start(init: str, runs: Path) -> str:
    """What a run started from, and how much of its epochs a trunk of ours had."""
    kind, name = start_of(init)
    if kind != "run" or not (runs / name / CONFIG).exists():
        return init
    asked = next((own for own in map(recipe.load, recipe.names()) if own.name == name), None)
    done = len(config(runs / name)["sizes"])
    return f"{init}, {done} of {asked.epochs} epochs" if asked else f"{init}, {done} epochs"


def _fingerprint(wanted: Recipe) -> str:
    """Of all that a recipe says of training and testing, not of what recipes might say one day."""
    parts = [f for f in fields(wanted) if f.name not in AFTER_TRAINING - {"test"}]
    said = {f.name: getattr(wanted, f.name) for f in parts if getattr(wanted, f.name) != f.default}
    return hashlib.sha256(repr(said).encode()).hexdigest()


def _pictures(wanted: Recipe, run: Path) -> int:
    """How many pictures a run learned from."""
    files = [run / "splits" / f"{stem(s.list)}-{s.split}.csv" for s in wanted.train]
    return sum(len(list(csv.DictReader(file.read_text("utf-8").splitlines()))) for file in files)


def _shipped(folder: Path) -> dict[str, Any]:
    protocol = "ours, shipped: see its card; faces aligned by landmarks"
    return {"name": folder.name, "protocol": protocol, "state": "shipped", **_figures(folder)}


def _figures(folder: Path) -> dict[str, Any]:
    content = json.loads((folder / EVALUATION).read_text())
    kept = ("faces", "accuracy", "balanced_accuracy", "loss", "confusion")
    return {
        **{key: content["spec"][key] for key in ("input_size", "parameters", "macs")},
        "sets": {
            name: {key: own[key] for key in kept if key in own}
            for name, own in content["sets"].items()
        },
        "file": folder / MODEL,
    }


def earlier_rows(file: Path) -> list[dict[str, Any]]:
    """The rows of a table that `compare` made, from its JSON file; none where there is no file.

    Raises:
        DataError: it is damaged.
    """
    if not file.exists():
        return []
    try:
        content = json.loads(file.read_text())
        timed = {"processor": content["processor"]}  # of rows of then that do not say it
        rows = [row for row in content["rows"] if row["name"]]
        return [row if "kept" in row else {**timed, **row} for row in rows]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file}: not a table of `compare` ({error!r}); remove it") from error


def markdown(result: Mapping[str, Any]) -> str:
    """The table as Markdown."""
    rows = result["rows"]
    others = sorted({name for row in rows for name in row.get("sets", {})} - {MAIN})
    head = (*HEAD, *ON_MAIN, *others, *COST)
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head))]
    lines += ["| " + " | ".join(_cells(row, others, result)) + " |" for row in rows]
    return "\n".join([*lines, "", _legend(result), "", "Protocols:", "", *_protocols(rows), ""])


def _protocols(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A list of them, each with the rows that it is of."""
    names: dict[str, list[str]] = {}
    for row in rows:
        names.setdefault(row["protocol"], []).append(row["name"])
    return [f"- **{', '.join(of)}**: {protocol}" for protocol, of in names.items()]


def _cells(row: Mapping[str, Any], others: Sequence[str], result: Mapping[str, Any]) -> list[str]:
    mark = " (earlier)" if row.get("kept") else ""
    named = [f"{row['name']}{mark}", row.get("published") or "-"]
    if "sets" not in row:
        rest = len(HEAD) + len(ON_MAIN) + len(others) + len(COST) - len(named) - 1
        return [*named, row["state"], *["-"] * rest]
    main = row["sets"].get(MAIN, {})
    ratio, processor = row.get("of_baseline"), row.get("processor", "of another time")
    elsewhere = "" if processor == result["processor"] else f" ({processor})"
    return [
        *named,
        f"{row['epochs']} of {row['epochs_asked']}" if "epochs" in row else "-",
        str(row.get("pictures", "-")),
        row.get("start", "-"),
        row.get("device") or "-",
        str(row["input_size"]),
        _share(main.get("accuracy")),
        _interval(main.get("loss"), 1, 3),
        _confusion(main.get("confusion")),
        _share(main.get("balanced_accuracy")),
        *(_share(row["sets"].get(name, {}).get("balanced_accuracy")) for name in others),
        f"{row['parameters'] / 1e6:.2f}",
        f"{row['macs'] / 1e6:.0f}",
        f"{row['ms']:.2f}{elsewhere}",
        "-" if ratio is None else f"{ratio:.2f}x",
    ]


def _confusion(counts: Optional[Sequence[Sequence[int]]]) -> str:
    """Rows of the matrix (labelled women, men), each with how many were called either."""
    return "-" if counts is None else " / ".join(" ".join(map(str, row)) for row in counts)


def _share(figure: Optional[Mapping[str, Any]]) -> str:
    return _interval(figure, 100, 1)


def _interval(figure: Optional[Mapping[str, Any]], unit: float, digits: int) -> str:
    if figure is None or figure["value"] is None:
        return "not measured"
    value, low, high = (f"{unit * figure[key]:.{digits}f}" for key in ("value", "low", "high"))
    return f"{value} ({low}-{high})"


def _legend(result: Mapping[str, Any]) -> str:
    return (
        f"Accuracy, loss (cross-entropy) on {MAIN} and balanced accuracy on each set's test split, "
        "in % but for the loss, with 95 % intervals; confusion: of labelled women, then of "
        "labelled men, how many were taken for women and for men. References see pictures whole, "
        "and their FP32 networks are judged. Published figures are of other test pictures. "
        "Epochs: run, of those that the recipe asks; pictures: learned from; "
        "start: random, trunk (VGG16's published convolutions), imagenet, or "
        "run: with the run whose weights it takes; input: side in pixels. All were trained in "
        "bfloat16 where the processor has it, with gradients of norm 5 at most. Time: one crop in "
        f"memory to its prediction, ONNX Runtime, all cores of {result['processor'] or 'a CPU'} "
        "unless a row says another, "
        f"median of {ROUNDS} rounds over all rows; beside it, how many times that of {BASELINE} in "
        "the same round. (earlier): judged and timed when this table was made before; its run is "
        "gone. Made by `python -m export compare`."
    )
