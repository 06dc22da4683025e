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
    # The peaks are those of as many threads, for arithmetic and nothing else.
    alone = result["settings"]["clock"] == "network"
    peaks = result["machine"]["peaks"] if alone else None
    for row in result["variants"]:
        row["batches"] = [
            _batch(row, int(batch), done, peaks) for batch, done in row["rounds"].items() if done
        ]
    result["accuracy_note"] = _note(result["variants"], bool(result["settings"]["data"]))


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
    """The least time that the processor's peaks allow, as a share of the time that it took: by
    arithmetic in the row's precision, or by reading weights and pixels once.
    """
    if peaks is None or not row.get("macs") or row.get("gpu"):
        return None
    pixels = figures["batch"] * 3 * row["input_size"] ** 2
    gmacs = peaks["int8_gmacs" if row["precision"] == "int8" else "gemm_gmacs"]
    compute = row["macs"] * figures["batch"] / (1e9 * gmacs)
    traffic = (row["bytes"] + pixels) / (1e9 * peaks["copy_gb_s"])
    return float(max(compute, traffic) / (figures["p50_ms"] / 1e3))


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
