"""What stands below a benchmark's tables: what was measured, on what, and how."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks import dominance, rounds
from benchmarks.scenarios import CLOCKS
from gender_edge import host

GPU = "{name} (compute capability {compute_capability}, driver for CUDA {driver_cuda})"


def caption(result: dict[str, Any]) -> str:
    """What was measured, on what, and how."""
    machine, settings = result["machine"], result["settings"]
    return (
        f"{machine['cpu']}, {machine['cores']} cores ({', '.join(machine['features'])}), "
        f"{machine['system']}, Python {machine['python']}, {_packages(machine)}; "
        f"threads: {result['threads'] or 'all'}{_state(machine)}.{_gpus(result)} "
        f"The clock: {CLOCKS[settings['clock']]}.{_bfloat16(result)} "
        f"Medians of {settings['rounds']} rounds over all rows, ± half of what lies between the "
        f"fastest and the slowest round{_too_wide(result)}; a classifier's `batch_size` is the "
        f"largest batch; peak MB is the resident set of a "
        f"process of its own. {_roofline(result)}{result['accuracy_note']} "
        f"{dominance.sentences(result)}"
        f"Made by `{result['command']}`."
    )


def _packages(machine: dict[str, Any]) -> str:
    return ", ".join(f"{name} {version}" for name, version in machine["packages"].items())


def _state(machine: dict[str, Any]) -> str:
    """What else decided how fast the processor was, as far as it tells."""
    power = "".join(f", {name} {value}" for name, value in machine["power"].items())
    return f"{power}, load before {machine['load_before'][0]:g}"


def _too_wide(result: dict[str, Any]) -> str:
    measured = [row for variant in result["variants"] for row in variant.get("batches", ())]
    wide = sum(rounds.spread(row) > rounds.WIDE for row in measured)
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
    """The GPUs that rows ran on, and what ran there."""
    engines: dict[str, list[str]] = {}
    for variant in result["variants"]:
        if gpu := variant.get("gpu"):
            engines.setdefault(GPU.format_map(gpu), []).append(variant["backend"])
    if not engines:
        return " On a GPU: not measured."
    return "".join(
        f" On {gpu}: {', '.join(dict.fromkeys(found))}." for gpu, found in engines.items()
    )


def _bfloat16(result: dict[str, Any]) -> str:
    """An engine may compute FP32 files in fewer bits, which their names do not tell."""
    narrow = [v["name"] for v in result["variants"] if "bf16" in v.get("provider", "")]
    if not narrow:
        return ""
    return f" OpenVINO computed in bfloat16: {', '.join(dict.fromkeys(narrow))}."


def short(result: dict[str, Any], details: str) -> str:
    """The same for a README, of what `tables.summary` shows, with a link to all the tables."""
    machine = result["machine"]
    first = next(v for v in result["variants"] if v.get("batches"))
    measured = first.get("accuracy", {}).get("measured")
    return (
        f"{host.titled(machine['cpu'], machine['features'])}, {machine['cores']} cores, "
        f"{first['backend']}.{_gpus(result)} The clock: {CLOCKS[result['settings']['clock']]}. "
        f"*: rounds lay more than {100 * rounds.WIDE:.0f} % apart; do not rank by it. Accuracy, "
        f"{'measured here' if measured else 'recorded with the model'}: the mean over the test "
        "sets, with its 95 % interval; worst adults: the group of adults, "
        f"in any set, that is judged worst. All variants, engines and sets: "
        f"[{Path(details).name}]({details})."
    )
