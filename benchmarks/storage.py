"""Results of runs as files: read, written whole, and where one is kept among the committed ones."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from gender_edge import GenderEdgeError

from . import derived, machine

RESULTS = Path(__file__).resolve().parent / "results"
KEYS = ("machine", "settings", "variants")


def read(path: Path) -> dict[str, Any]:
    """What a run wrote.

    Raises:
        GenderEdgeError: it is not there, or no result of a run.
    """
    try:
        result: dict[str, Any] = json.loads(path.read_text())
        if missing := [key for key in KEYS if key not in result]:
            raise KeyError(*missing)
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise GenderEdgeError(
            f"{path}: no result of benchmarks/run.py ({error!r}); remove it and measure anew"
        ) from error
    return result


def write(path: Path, result: dict[str, Any]) -> None:
    """All of it or, if that is interrupted, what was there before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(result, indent=1) + "\n")
    partial.replace(path)


def own_place(result: dict[str, Any], folder: Path = RESULTS) -> Path:
    """The file for a result, named by its hardware. Where a run with other settings has that name,
    which a README may be made from, a digest of these is added.
    """
    on_gpu = [row for row in result["variants"] if row.get("gpu")]
    name = machine.slug(result["machine"])
    if on_gpu:
        name = machine.gpu_slug(on_gpu[0]["gpu"]["name"], on_gpu[0]["backend"])
    target = folder / f"{name}.json"
    try:
        if not target.exists() or _kind(read(target)) == _kind(result):
            return target
    except GenderEdgeError:  # damaged; it is not lost either
        pass
    return target.with_name(f"{name}-{hashlib.sha256(_kind(result).encode()).hexdigest()[:8]}.json")


def note_gpu_peaks(path: Path, peaks: dict[str, float]) -> None:
    """Compare the rows of a result that ran on a GPU with its peaks, as `derived` knows them."""
    result = read(path)
    result["machine"]["gpu_peaks"] = peaks
    derived.update(result)
    write(path, result)


def _kind(result: dict[str, Any]) -> str:
    """The settings of a run, and whether it timed others' models too."""
    peers = any(row["kind"] == "peer" for row in result["variants"])
    return json.dumps([result["settings"], peers], sort_keys=True)
