"""Recorded latencies: by them `gender_edge.choose` finds a model for a budget at once."""

from __future__ import annotations

import json
from typing import Any

from gender_edge import choose, host, zoo


def record(result: dict[str, Any]) -> None:
    """Put a result's latencies of one face into the models' `timings.json`, for this machine.

    For a result of batch 1, all threads and the clock of `network`; only shipped models count.
    """
    host_records = choose.records()
    for engine in choose.RECORDED_ENGINES:
        times = {
            zoo.entry(v["name"]).sha256[:16]: round(v["batches"][0]["p50_ms"], 4)
            for v in result["variants"]
            if v["engine"] == engine
            and v["kind"] == "variant"
            and v["name"] in zoo.names()
            and "error" not in v
        }
        if times:
            here = host.identity(engine)
            before = [r["p50_ms"] for r in host_records if r["host"] == here]
            shipped = {zoo.entry(name).sha256[:16] for name in zoo.names()}
            kept = {k: v for own in before for k, v in own.items() if k in shipped}
            host_records = [r for r in host_records if r["host"] != here]
            host_records.append({"host": here, "p50_ms": {**kept, **times}})
    text = json.dumps(host_records, indent=1) + "\n"
    (zoo.folder() / choose.TIMINGS).write_text(text)
