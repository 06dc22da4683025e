from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from gender_edge import DataError
from gender_edge.camera import Camera, shown
from tests.camera.conftest import RtspServer, wait_for


def test_a_file_is_read_whole_and_ends(portrait_clip: Path) -> None:
    """Frame by frame, however slow the reader is, and nothing twice."""
    with Camera(str(portrait_clip)) as camera:
        numbers = []
        while (frame := camera.read()) is not None:
            assert frame.image.shape == (480, 640, 3) and frame.image.dtype == np.uint8
            numbers.append(frame.number)
            time.sleep(0.005)
        assert numbers == list(range(30)) and camera.ended and camera.dropped == 0
        assert camera.read(0.1) is None


def test_a_live_source_drops_what_nobody_took(portrait_clip: Path) -> None:
    """A slow reader gets the newest; each frame is taken or counted; a file takes its time."""
    started = time.monotonic()
    with Camera(str(portrait_clip), live=True) as camera:
        numbers = []
        while (frame := camera.read()) is not None:
            numbers.append(frame.number)
            time.sleep(0.2)
        assert numbers == sorted(set(numbers)) and numbers[-1] == 29
        assert len(numbers) + camera.dropped == 30 and camera.dropped > 0
    assert time.monotonic() - started > 1.8  # 30 frames, 15 a second


def test_a_file_can_begin_anew(portrait_clip: Path) -> None:
    with Camera(str(portrait_clip), loop=True) as camera:
        numbers = [frame.number for _ in range(70) if (frame := camera.read(10)) is not None]
        assert numbers == list(range(70)) and camera.reconnects == 0


def test_what_is_no_video_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        Camera(str(tmp_path / "none.mp4"))
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(DataError, match="cannot read it as a video"):
        Camera(str(tmp_path / "text.mp4"))


def test_closing_wakes_the_reader(rtsp: RtspServer) -> None:
    """A reader that waits for a source that is not there returns when the camera is closed."""
    rtsp.kill()
    camera = Camera(rtsp.url)
    got: list[object] = ["nothing yet"]
    thread = threading.Thread(target=lambda: got.append(camera.read()))
    thread.start()
    assert camera.read(0.1) is None and not camera.ended
    camera.close()
    thread.join(10)
    assert not thread.is_alive() and got[-1] is None and camera.ended


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A server on loopback that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        yield server


def test_closing_does_not_wait_for_a_camera_that_never_answers(
    silent: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closed while OpenCV opens them; when that gives up, connections and threads are gone."""
    monkeypatch.setattr("gender_edge.camera.STALE_AFTER", 1.5)
    url = f"rtsp://127.0.0.1:{silent.getsockname()[1]}/door"
    cameras = [Camera(url) for _ in range(3)]
    connections = [silent.accept()[0]]  # OpenCV opens one after another
    started = time.monotonic()
    for camera in cameras:
        camera.stop()
    for camera in cameras:
        camera.close()
        assert camera._thread.is_alive() and camera._thread.daemon and camera.ended
    assert time.monotonic() - started < 1
    connections += [silent.accept()[0] for _ in cameras[1:]]
    for connection in connections:
        connection.settimeout(10)
        with connection:
            while connection.recv(4096):  # what it asked for; nothing once OpenCV let go
                pass
    assert wait_for(lambda: not any(c._thread.is_alive() for c in cameras), 10)


def test_closing_does_not_wait_for_a_camera_that_froze(
    rtsp: RtspServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gender_edge.camera.STALE_AFTER", 2.0)
    camera = Camera(rtsp.url)
    assert camera.read(15) is not None
    rtsp.freeze()
    assert wait_for(lambda: camera.read(0.3) is None, 5) and camera._thread.is_alive()
    started = time.monotonic()
    camera.close()
    assert camera._thread.is_alive() and time.monotonic() - started < 1
    assert wait_for(lambda: not camera._thread.is_alive(), 10)


def test_a_killed_camera_is_back(rtsp: RtspServer) -> None:
    """The server dies and comes again: the reader only waits, numbers go on, it is counted."""
    with Camera(rtsp.url) as camera:
        before = camera.read(15)
        assert before is not None and before.image.shape == (120, 160, 3)
        rtsp.kill()
        assert wait_for(lambda: camera.read(0.5) is None, 15)
        assert camera.reconnects == 0 and not camera.ended
        rtsp.start()
        started = time.monotonic()
        after = camera.read(15)
        assert after is not None and after.number > before.number
        assert camera.reconnects == 1
        assert time.monotonic() - started < 10  # the longest pause, and opening


def test_passwords_are_not_shown() -> None:
    assert shown("rtsp://user:pa!ss@host:554/door") == "rtsp://host:554/door"
    assert shown("rtsp://host/a@b") == "rtsp://host/a@b" and shown(0) == "0"
    pipeline = "rtspsrc location=rtsp://{}host/door ! decodebin ! appsink"
    assert shown(pipeline.format("user:pass@")) == pipeline.format("")
