from __future__ import annotations

from typing import Any

from benchmarks import dominance


def row(
    name: str, p50_ms: float, accuracy: float | None, size: int, **other: Any
) -> dict[str, Any]:
    """A subject whose rounds lie 10 % around its median."""
    interval = {"p50_ms": [0.9 * p50_ms, 1.1 * p50_ms]}
    judged = {"value": accuracy, "sets": {} if accuracy is None else {"lfw": {}}}
    return {
        **{"name": name, "engine": "onnxruntime", "kind": "variant", "bytes": size},
        **{"batches": [{"batch": 1, "p50_ms": p50_ms, "interval": interval}], "accuracy": judged},
        **other,
    }


FULL = row("full", 2.0, 0.95, 1000)


def test_what_leaves_no_reason_for_another() -> None:
    assert dominance.dominates(row("better", 1.0, 0.96, 500), FULL)
    assert dominance.dominates(row("smaller, in its noise as fast", 2.1, 0.95, 500), FULL)
    assert not dominance.dominates(FULL, FULL)
    assert not dominance.dominates(row("slower", 3.0, 0.96, 500), FULL)
    assert not dominance.dominates(row("larger", 1.0, 0.96, 1001), FULL)
    assert not dominance.dominates(row("less accurate", 1.0, 0.94, 500), FULL)
    assert not dominance.dominates(row("elsewhere", 1.0, 0.96, 500, engine="openvino"), FULL)
    other = row("on other sets", 1.0, 0.96, 500)
    other["accuracy"]["sets"] = {"mine": {}}
    assert not dominance.dominates(other, FULL)


def test_the_report_names_it() -> None:
    better, small = row("better", 1.0, 0.96, 500), row("small", 0.5, 0.9, 100)
    best = row("best", 1.0, 0.97, 500)
    said = dominance.sentences({"variants": [FULL, better, small, best]})
    assert "full by best (onnxruntime); better by best (onnxruntime); why" in said
    assert "peer" not in said
    assert dominance.sentences({"variants": [small, best]}) == "No variant dominates another. "
    assert dominance.sentences({"variants": [FULL]}) == ""


def test_peers_are_compared_where_they_were_judged() -> None:
    small = row("small", 0.5, 0.9, 100)
    unjudged, worse, better = (
        row("peer", 0.4, accuracy, 90, kind="peer") for accuracy in (None, 0.8, 0.91)
    )
    assert dominance.sentences({"variants": [small, unjudged]}) == ""
    assert "No peer dominates" in dominance.sentences({"variants": [small, worse]})
    found = dominance.sentences({"variants": [small, better]})
    assert found == "Dominated by a peer: small by peer (onnxruntime). "
