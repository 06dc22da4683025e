"""Which subjects of a result another one makes needless: as accurate, as small and as fast."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

RULE = "on the same engine as accurate, as small, and no slower than rounds vary"


def sentences(result: Mapping[str, Any]) -> str:
    """What of the variants is dominated by another variant, and by a peer where some were judged;
    empty where there is nothing to compare.
    """
    judged = [v for v in result["variants"] if v.get("batches") and v.get("bytes") and _sets(v)]
    variants = [v for v in judged if v.get("kind") != "peer"]
    peers = [v for v in judged if v.get("kind") == "peer"]
    said = ""
    if len({v["name"] for v in variants}) > 1:
        found = pairs(variants, variants)
        said += (
            f"Dominated by another variant ({RULE}): {found}; why they are kept is in the README. "
        )
        said = said if found else "No variant dominates another. "
    if peers and variants:
        found = pairs(variants, peers)
        said += f"Dominated by a peer: {found}. " if found else "No peer dominates any variant. "
    return said


def pairs(owns: Sequence[Mapping[str, Any]], others: Iterable[Mapping[str, Any]]) -> str:
    """As "a by b (onnxruntime, openvino)": dominated subjects, the most accurate one that dominates
    each, and on which engines.
    """
    others = sorted(others, key=lambda v: (-v["accuracy"]["value"], v["bytes"]))
    engines: dict[str, list[str]] = {}
    for own in owns:
        better = next((other["name"] for other in others if dominates(other, own)), None)
        if better is not None:
            engines.setdefault(f"{own['name']} by {better}", []).append(own["engine"])
    return "; ".join(f"{pair} ({', '.join(found)})" for pair, found in engines.items())


def dominates(other: Mapping[str, Any], own: Mapping[str, Any]) -> bool:
    """Whether one subject, with its accuracy on the same sets, leaves no reason for another."""
    if other["engine"] != own["engine"] or _sets(other) != _sets(own):
        return False
    gained = other["accuracy"]["value"] - own["accuracy"]["value"]
    saved = own["bytes"] - other["bytes"]
    return bool(min(gained, saved) >= 0 < max(gained, saved) and not _slower(other, own))


def _slower(other: Mapping[str, Any], own: Mapping[str, Any]) -> bool:
    """Whether `other` is surely slower at some batch size: in its fastest round than `own` in its
    slowest.
    """
    slowest = {row["batch"]: row["interval"]["p50_ms"][1] for row in own["batches"]}
    return any(
        row["interval"]["p50_ms"][0] > slowest.get(row["batch"], 0) for row in other["batches"]
    )


def _sets(variant: Mapping[str, Any]) -> set[str]:
    accuracy = variant.get("accuracy", {"value": None})
    return set() if accuracy["value"] is None else set(accuracy["sets"])
