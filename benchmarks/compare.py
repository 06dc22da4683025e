"""What got better or worse between two results: `python benchmarks/compare.py A.json B.json`.

Bytes, parameters, multiply-accumulates and accuracy are counted: any change beyond the threshold
is one. Times and cameras differ only if their intervals over the rounds do not touch, and memory
by a threshold; both are compared only between runs of one kind on one machine. Exits with 1 if
anything got worse by more than its threshold.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a file: make the folder above importable
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import storage
from benchmarks.report import aligned
from gender_edge import GenderEdgeError

COUNTED = {"bytes": 0.01, "parameters": 0.0, "macs": 0.0}  # how much more of it is allowed
POINTS = 0.3  # of balanced accuracy, in per cent: how much less is allowed
TIMED = {"p50_ms": -1, "p99_ms": -1, "faces_per_s": 1}  # whether more is worse or better
MEMORY = 0.1  # how much more is allowed
# Settings without which times mean something else; OpenVINO compiles the largest batch by itself.
ALIKE = ("clock", "threads", "detector", "batches")
FILMED = ("cameras", "deadline")  # and numbers of cameras, where both results have them


@dataclass(frozen=True)
class Change:
    """One figure of one subject in both results.

    Attributes:
        verdict: "worse", "better", "equal" (or within noise), or "gone".
    """

    subject: str
    figure: str
    before: float | None
    after: float | None
    verdict: str


def compare(before: dict[str, Any], after: dict[str, Any], timing: float | None) -> list[Change]:
    """Every figure that both results have, and subjects that are gone.

    Args:
        timing: how much slower a row may be, as a share, before that counts as worse; None to
            leave times out.
    """
    old, new = ({(v["name"], v["engine"]): v for v in r["variants"]} for r in (before, after))
    changes = []
    for key, left in old.items():
        subject, right = " on ".join(key), new.get(key)
        if right is None or ("error" in right and "error" not in left):
            changes.append(Change(subject, "", None, None, "gone"))
            continue
        changes += _counted(subject, left, right)
        if timing is not None:
            changes += _timed(subject, left, right, timing)
    return changes


def comparable(before: dict[str, Any], after: dict[str, Any]) -> str:
    """Why times of two results cannot be compared; "" where they can."""
    both = (before, after)
    filmed = all(result["settings"].get("cameras") for result in both)
    told = [
        {
            "processor": result["machine"]["cpu"],
            "cores": result["machine"]["cores"],
            "instructions": result["machine"].get("features"),
            **{key: result["settings"].get(key) for key in ALIKE + FILMED * filmed},
        }
        for result in both
    ]
    return "; ".join(f"{k} {a}, then {told[1][k]}" for k, a in told[0].items() if told[1][k] != a)


def overtaken(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Pairs of rows of one batch size of which another one is the faster now, and both times by
    more than their rounds differ.
    """
    old, new = (_times(result) for result in (before, after))
    found = []
    for one, other in itertools.combinations([key for key in old if key in new], 2):
        if one[2] == other[2] and _first(old, one, other) * _first(new, one, other) < 0:
            found.append(f"{' on '.join(one[:2])} and {' on '.join(other[:2])}, batch {one[2]}")
    return found


def _times(result: dict[str, Any]) -> dict[tuple[str, str, int], list[float]]:
    """Fastest and slowest round of every row."""
    return {
        (v["name"], v["engine"], row["batch"]): row["interval"]["p50_ms"]
        for v in result["variants"]
        for row in v.get("batches", ())
    }


def _first(times: dict[tuple[str, str, int], list[float]], one: Any, other: Any) -> int:
    """1 if one is surely faster than the other, -1 if slower, 0 if that cannot be said."""
    (low, high), (other_low, other_high) = times[one], times[other]
    return (high < other_low) - (other_high < low)


def _counted(subject: str, left: dict[str, Any], right: dict[str, Any]) -> Iterator[Change]:
    for figure, allowed in COUNTED.items():
        a, b = left.get(figure), right.get(figure)
        if a and not b:
            yield Change(subject, figure, a, None, "gone")
        elif a:
            worse, better = b > a * (1 + allowed), b < a * (1 - allowed)
            yield Change(subject, figure, a, b, _verdict(worse, better))
    old, new = ((v.get("accuracy") or {}).get("sets", {}) for v in (left, right))
    for name, own in old.items():
        if own["value"] is None:  # faces of one label alone
            continue
        a, b = 100 * own["value"], new.get(name, {"value": None})["value"]
        if b is None:
            yield Change(subject, f"{name}, %", a, None, "gone")
        else:
            worse, better = 100 * b < a - POINTS, 100 * b > a + POINTS
            yield Change(subject, f"{name}, %", a, 100 * b, _verdict(worse, better))


def _timed(
    subject: str, left: dict[str, Any], right: dict[str, Any], timing: float
) -> Iterator[Change]:
    rows = {row["batch"]: row for row in right.get("batches", ())}
    for row in left.get("batches", ()):
        if row["batch"] not in rows:
            yield Change(subject, f"batch {row['batch']}", None, None, "gone")
            continue
        other = rows[row["batch"]]
        for figure, sign in TIMED.items():
            a, b = row[figure], other[figure]
            (low, high), (other_low, other_high) = (r["interval"][figure] for r in (row, other))
            apart = other_low > high or other_high < low
            gain = sign * (b - a) / a
            verdict = _verdict(apart and gain < -timing, apart and gain > timing)
            yield Change(subject, f"{figure}, batch {row['batch']}", a, b, verdict)
        held, now = ((r.get("resident_mb") or {}).get("peak") for r in (row, other))
        if held and now:
            verdict = _verdict(now > held * (1 + MEMORY), now < held * (1 - MEMORY))
            yield Change(subject, f"peak MB, batch {row['batch']}", held, now, verdict)
    old, new = (v.get("cameras", {}).get("cameras") for v in (left, right))
    if old and new is not None:
        verdict = _verdict(new < old * (1 - timing), new > old * (1 + timing))
        yield Change(subject, "cameras", old, new, verdict)


def _verdict(worse: bool, better: bool) -> str:
    return "worse" if worse else "better" if better else "equal"


def main(argv: list[str] | None = None) -> int:
    """Print what changed; returns 1 if anything got worse, 2 if a result cannot be read."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument(
        "--timing", type=float, default=10, metavar="PERCENT", help="slower by this is worse"
    )
    parser.add_argument("--counted", action="store_true", help="leave times out")
    parser.add_argument("--all", action="store_true", help="print what stayed equal too")
    arguments = parser.parse_args(argv)
    try:
        results = [storage.read(path) for path in (arguments.before, arguments.after)]
    except GenderEdgeError as error:
        print(f"compare: {error}", file=sys.stderr)
        return 2
    share = None if arguments.counted else arguments.timing / 100
    other = "" if arguments.counted else comparable(*results)
    if other:
        print(
            f"compare: times of other conditions ({other}) say nothing; --counted leaves them out",
            file=sys.stderr,
        )
        return 2
    changes = compare(results[0], results[1], share)
    listed = [c for c in changes if arguments.all or c.verdict != "equal"]
    if listed:
        print(
            "\n".join(aligned([("subject", "figure", "before", "after", ""), *map(_row, listed)]))
        )
    counts = {v: sum(c.verdict == v for c in changes) for v in ("worse", "gone", "better", "equal")}
    if share is not None:
        for pair in overtaken(*results):
            print(f"the other one is faster now: {pair}")
    print(", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
    return int(counts["worse"] + counts["gone"] > 0)


def _row(change: Change) -> tuple[str, ...]:
    figures = ("-" if f is None else f"{f:.6g}" for f in (change.before, change.after))
    return (change.subject, change.figure, *figures, change.verdict)


if __name__ == "__main__":
    raise SystemExit(main())
