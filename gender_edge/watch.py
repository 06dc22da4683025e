"""What `gender-edge watch` shows of a pipeline: a live table, lines of JSON, metrics, a video."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Optional

import cv2
import numpy as np

from .errors import DataError
from .pipeline import Pipeline, Result

EVERY = 1.0  # s between two views of the table
FPS = 15.0  # of a recording
COLUMNS = ("camera", "frames", "fps", "dropped", "p50 ms", "p99 ms", "female", "male", "undecided")


def lines(result: Result) -> list[str]:
    """A JSON object a face: camera, track, box, label, female, confidence, time."""
    return [
        json.dumps(
            {
                "camera": result.camera,
                "source": result.source,
                "frame": result.number,
                "time": round(result.time, 3),
                "track": face.track,
                "box": [round(v, 1) for v in face.box],
                "label": face.label,
                "female": round(face.female, 4),
                "confidence": round(face.confidence, 4),
            }
        )
        for face in result.faces
    ]


def table(stats: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """A row a camera, in the order of `COLUMNS`."""
    return [
        (
            s["source"],
            str(s["frames"]),
            f"{s['fps']:.1f}",
            str(s["dropped"]),
            *("-" if s[key] is None else f"{s[key]:.0f}" for key in ("p50_ms", "p99_ms")),
            *(str(s["tracks"][word]) for word in ("female", "male", "undecided")),
        )
        for s in stats
    ]


class View:
    """The table on a terminal, rewritten in place where rich is installed, else a line a camera."""

    def __init__(self) -> None:
        self._live: Any = None
        self._next = 0.0
        try:
            from rich.live import Live
        except ImportError:
            return
        if sys.stderr.isatty():
            from rich.console import Console

            self._live = Live(console=Console(stderr=True), auto_refresh=False)
            self._live.start()

    def show(self, pipeline: Pipeline, last: bool = False) -> None:
        """Bring it up to date, at most once a second."""
        if time.monotonic() < self._next and not last:
            return
        self._next = time.monotonic() + EVERY
        rows = table(pipeline.stats())
        if self._live is None:
            if last or sys.stderr.isatty():
                for row in rows:
                    pairs = (f"{name} {cell}" for name, cell in zip(COLUMNS[1:], row[1:]))
                    print(f"{row[0]}: {', '.join(pairs)}", file=sys.stderr)
            return
        from rich.table import Table

        drawn = Table(*COLUMNS, title="apparent gender of tracks, binary labels")
        for row in rows:
            drawn.add_row(*row)
        self._live.update(drawn, refresh=True)

    def close(self) -> None:
        """Leave the last view standing."""
        if self._live is not None:
            self._live.stop()


class Metrics:
    """Counts and rates for Prometheus, on loopback unless told otherwise.

    Raises:
        DataError: the port is taken.
    """

    def __init__(self, pipeline: Pipeline, port: int, host: str = "127.0.0.1") -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = prometheus(pipeline.stats()).encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """No line a scrape."""

        try:
            self._server = ThreadingHTTPServer((host, port), Handler)
        except (OSError, OverflowError) as error:
            raise DataError(f"--metrics {port}: {error}; take another port") from error
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()


def prometheus(stats: Sequence[Mapping[str, Any]]) -> str:
    """The stats of a pipeline in Prometheus' text format."""
    counters = ("frames", "dropped", "reconnects", "faces", "answers", "flips")
    parts = []
    for key in counters:
        parts.append(f"# TYPE gender_edge_{key}_total counter")
        parts += [f"gender_edge_{key}_total{_labels(s)} {s[key]}" for s in stats]
    parts.append("# TYPE gender_edge_tracks_total gauge")
    parts += [
        f"gender_edge_tracks_total{_labels(s, label=word)} {count}"
        for s in stats
        for word, count in s["tracks"].items()
    ]
    parts.append("# TYPE gender_edge_fps gauge")
    parts += [f"gender_edge_fps{_labels(s)} {s['fps']:.3f}" for s in stats]
    parts.append("# TYPE gender_edge_latency_seconds gauge")
    for key, quantile in (("p50_ms", "0.5"), ("p99_ms", "0.99")):
        parts += [
            f"gender_edge_latency_seconds{_labels(s, quantile=quantile)} {s[key] / 1e3:.6f}"
            for s in stats
            if s[key] is not None
        ]
    return "\n".join(parts) + "\n"


def _labels(stats: Mapping[str, Any], **more: str) -> str:
    source = str(stats["source"]).replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
    pairs = {"camera": stats["camera"], "source": source, **more}
    return "{" + ",".join(f'{k}="{v}"' for k, v in pairs.items()) + "}"


class Recorder:
    """A video of one camera with boxes and labels, 15 frames a second, for people who would rather
    look.

    Raises:
        DataError: OpenCV cannot write it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writer: Optional[cv2.VideoWriter] = None
        self._size: Sequence[int] = ()

    def add(self, result: Result) -> None:
        """One more frame."""
        assert result.image is not None
        if self._writer is None:
            self._size = result.image.shape[1::-1]
            self._writer = cv2.VideoWriter(
                str(self.path), cv2.VideoWriter.fourcc(*"mp4v"), FPS, self._size
            )
            if not self._writer.isOpened():
                raise DataError(
                    f"{self.path}: OpenCV cannot write it; name a file that ends in .mp4"
                )
        self._writer.write(cv2.resize(drawn(result), self._size))  # a source may change its size

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.release()


def drawn(result: Result) -> np.ndarray:
    """A copy of the frame with a box and a line of text a face."""
    assert result.image is not None
    image = result.image.copy()
    for face in result.faces:
        x, y, width, height = (round(v) for v in face.box)
        color = (160, 160, 160) if face.label is None else (60, 180, 75)
        cv2.rectangle(image, (x, y), (x + width, y + height), color, 2)
        text = f"{face.track} {face.label or '?'} {100 * face.confidence:.0f} %"
        cv2.putText(image, text, (x, max(12, y - 4)), cv2.FONT_HERSHEY_SIMPLEX, 0.45, color, 1)
    return image
