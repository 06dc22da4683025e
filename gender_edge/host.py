"""What this machine is, as far as it decides how fast a model runs."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

from .backends import installed

# Instruction sets that the engines have kernels of their own for, the narrowest first.
FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_int8", "asimddp")


def identity(engine: str) -> dict[str, Any]:
    """What a recorded latency must agree with to count here.

    The processor's name alone is not enough: virtual machines shorten it to a family's.
    """
    return {
        "cpu": processor(),
        "cores": cores(),
        "features": features(),
        "engine": f"{engine} {version(engine)}",
    }


def described() -> Optional[str]:
    """The processor for people, by name and instructions; None where the system tells no name."""
    name = processor()
    return None if name is None else titled(name, features())


def titled(name: str, found: Sequence[str]) -> str:
    """A processor's name and its widest instruction set of `FEATURES`: "AMD EPYC, avx2".

    Virtual machines of one name compute INT8 and bfloat16 several times apart.
    """
    return ", ".join([name, *found[-1:]])


def processor() -> Optional[str]:
    """The processor's name, as the system tells it; None where it tells none."""
    return _field("model name|Model")


def cores() -> Optional[int]:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def features() -> list[str]:
    """Those of `FEATURES` that the processor has, as far as the system tells."""
    flags = (_field("flags|Features") or "").split()
    return [f for f in FEATURES if f in flags]


def version(engine: str) -> str:
    """The version of an engine's package, whichever of its packages is installed."""
    found = (installed.version(package) for package in (engine, f"{engine}-gpu"))
    return next(filter(None, found), "of unknown version")


def _field(names: str) -> Optional[str]:
    """Of /proc/cpuinfo, the first that has one of these names (a regular expression)."""
    try:
        text = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:  # not Linux
        return None
    match = re.search(rf"^(?:{names})\s*:\s*(.+)$", text, re.MULTILINE)
    return match.group(1).strip() if match else None
