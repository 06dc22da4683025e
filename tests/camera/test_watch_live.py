"""`gender-edge watch` in a process of its own, before a camera that dies, on a real terminal."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest

from gender_edge.faces import Detector
from tests.camera.conftest import frames, wait_for
from tests.conftest import ROOT

pty = pytest.importorskip("pty", reason="no terminals of this kind on this system")
SENT = 60  # frames until the camera falls silent


class MotionJpeg:
    """A camera on loopback that sends pictures one after another, and then nothing any more."""

    def __init__(self, pictures: list[bytes]) -> None:
        silent = self._silent = threading.Event()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                if not silent.is_set():
                    for picture in pictures:
                        head = (
                            f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}"
                        )
                        self.wfile.write(f"{head}\r\n\r\n".encode() + picture + b"\r\n")
                        time.sleep(1 / 15)
                silent.set()
                over.wait()

            def log_message(self, *_: object) -> None:
                pass

        over = self._over = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def wait_until_silent(self) -> None:
        assert self._silent.wait(60)

    def close(self) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def camera(head: np.ndarray) -> Iterator[MotionJpeg]:
    picture = cv2.imencode(".jpg", next(frames([head], 1)))[1].tobytes()
    server = MotionJpeg([picture] * SENT)
    yield server
    server.close()


class Terminal:
    """What a process writes to a terminal."""

    def __init__(self) -> None:
        self._ours, self.theirs = pty.openpty()
        self.text = ""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            while part := os.read(self._ours, 4096):
                self.text += part.decode(errors="replace")
        except OSError:  # Linux's way to say that nobody writes any more
            return

    def close(self) -> str:
        """All of it, when the process is gone."""
        os.close(self.theirs)
        self._thread.join(5)
        os.close(self._ours)
        return self.text


def test_a_dead_camera_stays_in_view_and_sigterm_ends_cleanly(
    camera: MotionJpeg, tmp_path: Path, center_face: Detector
) -> None:
    """The table goes on when frames do not; no password is shown; the recording can be played; and
    stdout has its lines though stderr is a terminal.
    """
    pytest.importorskip("rich")
    video, terminal = tmp_path / "seen.mp4", Terminal()
    source = f"http://guest:secret@127.0.0.1:{camera.port}/[b]"  # nor is it taken for markup
    command = [sys.executable, "-m", "gender_edge", "watch", source, "--every-frame"]
    process = subprocess.Popen(
        [*command, "--record", str(video)],
        stdout=subprocess.PIPE,
        stderr=terminal.theirs,
        cwd=ROOT,
        text=True,
        env={**os.environ, "COLUMNS": "160", "TERM": "xterm"},
    )
    try:
        camera.wait_until_silent()
        time.sleep(1.5)
        drawn = terminal.text.count("undecided")
        assert wait_for(lambda: terminal.text.count("undecided") >= drawn + 2, 60)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()  # nothing stays open, whatever failed
    text = terminal.close()
    assert process.returncode == 0, text[-2000:]
    last = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).rpartition("camera")[2]
    for column in ("fps", "dropped", "reconnects", "p99 ms", "female", "flips"):
        assert column in last
    row = next(line for line in last.splitlines() if f"127.0.0.1:{camera.port}/[b]" in line)
    cells = re.split(r"\s*[│┃]\s*", row.strip())[2:-1]
    assert int(cells[0]) >= 2 and cells[6:] == ["1", "0", "0", "0"]
    assert "secret" not in text and "SAVES PICTURES" in text
    rows = [json.loads(line) for line in out.splitlines()]
    assert len(rows) >= 2 and rows[-1]["label"] == "female"
    capture = cv2.VideoCapture(str(video))
    assert capture.read()[0]
    seconds = rows[-1]["time"] - rows[0]["time"]
    assert abs(capture.get(cv2.CAP_PROP_FRAME_COUNT) / 15 - seconds) < 1
