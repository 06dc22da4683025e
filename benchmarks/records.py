"""Recorded latencies: by them `gender_edge.choose` finds a model for a budget at once."""

from __future__ import annotations

import json
from typing import Any

from gender_edge import choose, zoo


def record(result: dict[str, Any]) -> None:
    """Put a result's latencies of one face into the models' `timings.json`, for this machine.

    Only what users will see counts: shipped models, all threads, the clock of `network`.
    """
    settings, host_records = result["settings"], choose.records()
    if choose.processor() is None:
        raise SystemExit("--record: this system does not tell its processor's name")
    if result["threads"] or settings["clock"] != "network" or 1 not in settings["batches"]:
        raise SystemExit("--record wants batch 1, --clock network and no --threads")
    for engine in choose.RECORDED_ENGINES.values():
        times = {
            zoo.entry(v["name"]).sha256[:16]: round(v["batches"][0]["p50_ms"], 4)
            for v in result["variants"]
            if v["engine"] == engine
            and v["kind"] == "variant"
            and v["name"] in zoo.names()
            and "error" not in v
        }
        if times:
            host = choose.host(engine)
            host_records = [r for r in host_records if r["host"] != host]
            host_records.append({"host": host, "p50_ms": times})
    text = json.dumps(host_records, indent=1) + "\n"
    (zoo.folder() / choose.TIMINGS).write_text(text)
