"""Figures that follow from others: medians over rounds, energy a face, distance to the roofline."""

from __future__ import annotations

from typing import Any

from benchmarks import rounds
from gender_edge import evaluation

RECORDED = (
    "Accuracy: mean balanced accuracy over the recorded test sets, faces aligned by YuNet's "
    "landmarks ({})."
)
MEASURED = "Accuracy: mean balanced accuracy over {}, measured in this run."


def update(result: dict[str, Any]) -> None:
    """Bring them up to date in a result as it is so far."""
    # The peaks were measured with as many threads and bound the network alone.
    alone = result["settings"]["clock"] == "network"
    machine = result["machine"] if alone else {}
    for row in result["variants"]:
        row["batches"] = [
            _batch(row, int(batch), done, machine) for batch, done in row["rounds"].items() if done
        ]
    result["accuracy_note"] = _note(result["variants"], bool(result["settings"]["data"]))


def _batch(
    row: dict[str, Any], batch: int, done: list[dict[str, Any]], machine: dict[str, Any]
) -> dict[str, Any]:
    figures = {"batch": batch, **rounds.together(done)}
    memory = row.get("resident_mb", {}).get(str(batch))
    joules = [r["joules"] / (r["runs"] * batch) for r in done if r.get("joules")]
    least = _least_seconds(row, batch, machine)
    return {
        **figures,
        "resident_mb": memory,
        "mj_per_face": 1e3 * sum(joules) / len(joules) if joules else None,
        "roofline": None if least is None else least / (figures["p50_ms"] / 1e3),
    }


def _least_seconds(row: dict[str, Any], batch: int, machine: dict[str, Any]) -> float | None:
    """The least time that the peaks allow for a batch: the longer of its arithmetic, in the row's
    precision, and its data (weights and pixels read once; on a GPU, pixels uploaded). None where a
    peak is unknown.
    """
    precision, pixels = row.get("precision"), batch * 3 * row.get("input_size", 0) ** 2
    if row.get("gpu"):
        peaks, moved = machine.get("gpu_peaks", {}), pixels
        arithmetic, way = f"{precision}_gmacs", "upload_gb_s"
    else:
        peaks, moved = machine.get("peaks", {}), row.get("bytes", 0) + pixels
        arithmetic, way = "int8_gmacs" if precision == "int8" else "gemm_gmacs", "copy_gb_s"
    if not row.get("macs") or not {arithmetic, way} <= peaks.keys():
        return None
    return float(max(row["macs"] * batch / peaks[arithmetic], moved / peaks[way]) / 1e9)


def _note(variants: list[dict[str, Any]], measured: bool) -> str:
    done = next((v for v in variants if v.get("accuracy", {}).get("sets")), None)
    if done is None:
        return ""
    sets = ", ".join(
        f"{name} ({s['n']} faces{_framed(done, name)})"
        for name, s in done["accuracy"]["sets"].items()
    )
    return (MEASURED if measured else RECORDED).format(sets)


def _framed(row: dict[str, Any], name: str) -> str:
    """What a set's list offered to cut faces by; nothing where that was not counted."""
    counts = row.get("evaluation", {}).get(name, {}).get("framed")
    return f": {evaluation.framed_text(counts)}" if counts else ""
