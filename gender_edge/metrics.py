"""Counts and rates of cameras for Prometheus."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from .errors import DataError

LOOPBACK = "127.0.0.1"
COUNTERS = {
    "frames": "Frames that faces were looked for in.",
    "dropped": "Frames of a live camera that nobody took in time.",
    "reconnects": "How often a lost camera gave frames again.",
    "faces": "Faces found, every frame anew.",
    "answers": "Faces that the classifier was asked about.",
    "unaligned": "Faces cut by their box because their landmarks would not do.",
    "uncut": "Faces that could not be cut out of their frame.",
    "flips": "How often a track gave a label up: apparent gender, binary labels.",
}

Stats = Sequence[Mapping[str, Any]]


class Metrics:
    """An HTTP server, on loopback unless told otherwise.

    Args:
        stats: gives what `Pipeline.stats` does; called by threads of the server.
        port: 0 for a free one.
        host: name or address of the interface to listen on.

    Attributes:
        address: host and port that it listens on.

    Raises:
        DataError: the port is taken, or the host is not here.
    """

    def __init__(self, stats: Callable[[], Stats], port: int, host: str = LOOPBACK) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = prometheus(stats()).encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """No line a scrape."""

        class Server(ThreadingHTTPServer):
            address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

        try:
            self._server = Server((host, port), Handler)
        except (OSError, OverflowError) as error:
            raise DataError(f"--metrics {host}:{port}: {error}; name another HOST:PORT") from error
        self.address: tuple[str, int] = self._server.socket.getsockname()[:2]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        """Where the metrics are."""
        host, port = self.address
        return f"http://[{host}]:{port}/metrics" if ":" in host else f"http://{host}:{port}/metrics"

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()


def prometheus(stats: Stats) -> str:
    """The stats of a pipeline in Prometheus' text format."""
    parts = []
    for key, about in COUNTERS.items():
        parts += _heading(f"gender_edge_{key}_total", "counter", about)
        parts += [f"gender_edge_{key}_total{_labels(s)} {s[key]}" for s in stats]
    about = "Tracks by their last label: apparent gender, binary labels; not identity."
    parts += _heading("gender_edge_tracks", "gauge", about)  # a track may change its label
    parts += [
        f"gender_edge_tracks{_labels(s, label=word)} {count}"
        for s in stats
        for word, count in s["tracks"].items()
    ]
    parts += _heading("gender_edge_fps", "gauge", "Frames a second of late.")
    parts += [f"gender_edge_fps{_labels(s)} {s['fps']:.3f}" for s in stats]
    about = "From reading a frame until its answers are there, over all frames so far."
    parts += _heading("gender_edge_latency_seconds", "gauge", about)
    for key, quantile in (("p50_ms", "0.5"), ("p99_ms", "0.99")):
        parts += [
            f"gender_edge_latency_seconds{_labels(s, quantile=quantile)} {s[key] / 1e3:.6f}"
            for s in stats
            if s[key] is not None
        ]
    return "\n".join(parts) + "\n"


def _heading(name: str, kind: str, about: str) -> list[str]:
    return [f"# HELP {name} {about}", f"# TYPE {name} {kind}"]


def _labels(stats: Mapping[str, Any], **more: str) -> str:
    source = str(stats["source"]).replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
    pairs = {"camera": stats["camera"], "source": source, **more}
    return "{" + ",".join(f'{k}="{v}"' for k, v in pairs.items()) + "}"
