"""What `gender-edge watch` shows of a pipeline: a live table, lines of JSON."""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, Optional

from .pipeline import Pipeline, Result, TrackedFace
from .samples import LABELS

EVERY = 1.0  # s between two views of the table
KEPT = 1000  # tracks of a camera that are remembered: many more than can be in a frame
COLUMNS = (
    *("camera", "frames", "fps", "dropped", "reconnects", "p50 ms", "p99 ms"),
    *("female", "male", "undecided", "flips"),
)


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM, which stops services, interrupts as Ctrl-C does; a second one is ignored."""

    def interrupt(number: int, _: Optional[FrameType]) -> None:
        signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():  # only that one hears signals
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@dataclass
class _Seen:
    """What the last result with a track said of it, and whether it was ever decided."""

    label: Optional[str] = None
    decided: bool = False


class Tally:
    """Tracks, label changes and decisions, counted from the results that were taken.

    The pipeline's threads are further on and change their tracks at any time; these counts are
    whole whenever another thread asks for them, and label changes never become fewer.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._lock = threading.Lock()
        cameras = range(len(pipeline.stats()))
        self._seen: list[OrderedDict[int, _Seen]] = [OrderedDict() for _ in cameras]
        self._tracks: list[Counter[str]] = [Counter() for _ in cameras]
        self._flips = [0 for _ in cameras]

    def add(self, result: Result) -> list[TrackedFace]:
        """Count a result.

        Returns:
            The faces that a decision was made of: their track has become sure of a label, or has
            been and changes it.
        """
        with self._lock:
            return [face for face in result.faces if self._count(result.camera, face)]

    def _count(self, camera: int, face: TrackedFace) -> bool:
        tracks, seen = self._tracks[camera], self._seen[camera]
        track = seen.get(face.track)
        if track is None:
            track = seen[face.track] = _Seen()
            if len(seen) > KEPT:
                seen.popitem(last=False)
        else:
            tracks[track.label or "undecided"] -= 1
        seen.move_to_end(face.track)
        tracks[face.label or "undecided"] += 1
        changed = track.label != face.label
        self._flips[camera] += changed and track.label is not None
        made = changed if track.decided else face.decided
        track.label, track.decided = face.label, track.decided or made
        return made

    def stats(self) -> list[dict[str, Any]]:
        """`Pipeline.stats`, with tracks and label changes as counted here."""
        stats = self._pipeline.stats()
        with self._lock:
            for own, tracks, flips in zip(stats, self._tracks, self._flips):
                own["tracks"] = {word: tracks[word] for word in (*LABELS, "undecided")}
                own["flips"] = flips
        return stats


def lines(result: Result, faces: Iterable[TrackedFace]) -> list[str]:
    """A JSON object for each of the faces."""
    return [
        json.dumps(
            {
                "camera": result.camera,
                "source": result.source,
                "frame": result.number,
                "time": round(result.time, 3),
                "moment": None if result.moment is None else round(result.moment, 3),
                "track": face.track,
                "box": [round(v, 1) for v in face.box],
                "label": face.label,
                "female": round(face.female, 4),
                "confidence": round(face.confidence, 4),
                "decided": face.decided,
            }
        )
        for face in faces
    ]


def table(stats: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """One row per camera, in the order of `COLUMNS`."""
    return [
        (
            s["source"],
            str(s["frames"]),
            f"{s['fps']:.1f}",
            str(s["dropped"]),
            str(s["reconnects"]),
            *("-" if s[key] is None else f"{s[key]:.0f}" for key in ("p50_ms", "p99_ms")),
            *(str(s["tracks"][word]) for word in (*LABELS, "undecided")),
            str(s["flips"]),
        )
        for s in stats
    ]


class View:
    """The table on a terminal, every second whether cameras have frames or not: rewritten in place
    where rich is installed, else one line per camera. Where stderr is no terminal, once at the end.
    """

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._live = _live() if sys.stderr.isatty() else None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._refresh, name="table", daemon=True)
        if sys.stderr.isatty():
            self._thread.start()

    def close(self) -> None:
        """Leave the last view standing."""
        self._closing.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._show()
        if self._live is not None:
            self._live.stop()

    def _refresh(self) -> None:
        while not self._closing.wait(EVERY):
            self._show()

    def _show(self) -> None:
        rows = table(self._tally.stats())
        if self._live is None:
            for row in rows:
                pairs = (f"{name} {cell}" for name, cell in zip(COLUMNS[1:], row[1:]))
                print(f"{row[0]}: {', '.join(pairs)}", file=sys.stderr)
            return
        from rich.table import Table

        drawn = Table(*COLUMNS, title="apparent gender of tracks, binary labels")
        for row in rows:
            drawn.add_row(*row)
        self._live.update(drawn, refresh=True)


def _live() -> Any:
    """A place on the terminal that is written over and over; None without rich."""
    try:
        from rich.console import Console
        from rich.live import Live
    except ImportError:
        return None
    # A source may hold what rich takes for markup. And what goes to stdout shall get there, unless
    # that is this very terminal, where rich keeps it above the table.
    live = Live(
        console=Console(stderr=True, markup=False, emoji=False, highlight=False),
        auto_refresh=False,
        redirect_stdout=sys.stdout.isatty(),
    )
    live.start()
    return live
