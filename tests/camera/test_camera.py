from __future__ import annotations

import logging
import math
import os
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest

from gender_edge import ArgumentError, DataError, ModelError, faces, saving
from gender_edge.camera import FIRST_PAUSE, LONGEST_PAUSE, Camera, Frame
from gender_edge.sources import shown
from tests.camera.conftest import RtspServer, drawn_number, frames, wait_for


def _all(camera: Camera, pause: float = 0.0) -> list[Frame]:
    """What is left of a source, by a reader that takes its time."""
    taken = []
    while len(taken) < 100 and (frame := camera.read(10)) is not None:
        taken.append(frame)
        time.sleep(pause)
    return taken


def test_a_file_is_read_whole_and_ends(portrait_clip: Path) -> None:
    """Frame by frame, however slow the reader is, and nothing twice."""
    with Camera(str(portrait_clip)) as camera:
        taken = _all(camera, 0.005)
        assert camera.read(0.1) is None and camera.ended and camera.dropped == 0
    assert taken[0].image.shape == (480, 640, 3) and taken[0].image.dtype == np.uint8
    assert [drawn_number(f.image) for f in taken] == [f.number for f in taken] == list(range(30))
    assert [f.moment for f in taken] == pytest.approx([n / 15 for n in range(30)])


def test_what_opencv_would_crash_of_is_refused(tmp_path: Path) -> None:
    name = os.fsdecode(bytes(tmp_path) + b"/caf\xe9")
    Path(name).touch()
    with pytest.raises(DataError, match="not UTF-8"):
        Camera(name)
    with pytest.raises(ModelError, match="not UTF-8"):
        faces.YuNet(name)
    with pytest.raises(DataError, match="not UTF-8"):
        saving.targets(Path(name + ".mp4"), ["0"])


@pytest.mark.parametrize("seconds", [0, -1, math.inf, math.nan, 1e7])
def test_patience_is_a_time(portrait_clip: Path, seconds: float) -> None:
    with pytest.raises(ArgumentError, match="stale_after"):
        Camera(str(portrait_clip), stale_after=seconds)


def test_a_live_source_drops_what_nobody_took(portrait_clip: Path) -> None:
    """A slow reader gets the newest; each frame is taken or counted; a file takes its time."""
    started = time.monotonic()
    with Camera(str(portrait_clip), live=True) as camera:
        taken = _all(camera, 0.2)
        numbers = [drawn_number(f.image) for f in taken]
        assert numbers == sorted(set(numbers)) and numbers[-1] == 29
        assert numbers == [f.number for f in taken]
        assert len(numbers) + camera.dropped == 30 and camera.dropped > 0
    assert time.monotonic() - started > 1.8  # 30 frames, 15 a second


def test_a_file_can_begin_anew(portrait_clip: Path) -> None:
    with Camera(str(portrait_clip), loop=True) as camera:
        taken = [frame for _ in range(70) if (frame := camera.read(10)) is not None]
        assert camera.reconnects == 0
    assert [f.number for f in taken] == list(range(70))
    assert [drawn_number(f.image) for f in taken] == [n % 30 for n in range(70)]
    assert [f.moment for f in taken] == pytest.approx([n / 15 for n in range(70)])


def test_frames_of_a_file_lie_where_it_says(tmp_path: Path) -> None:
    """Telephones and recorders save no even rate: a number of frames is no number of seconds."""
    from PIL import Image

    pictures = [Image.fromarray(np.full((48, 64), 50 * n, np.uint8)) for n in range(4)]
    path, pauses = tmp_path / "uneven.gif", [100, 2000, 500, 100]  # ms after each
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=pauses)
    with Camera(str(path)) as camera:
        assert [f.moment for f in _all(camera)] == pytest.approx([0, 0.1, 2.1, 2.6])
        assert camera.fps == pytest.approx(4 / 2.7, abs=0.1)  # the average is what it states


def test_the_rate_that_a_file_states(portrait_clip: Path) -> None:
    with Camera(str(portrait_clip), live=True) as camera:  # played as if it were a camera
        assert camera.fps == 15
    with Camera("rtsp://127.0.0.1:9/none") as camera:
        assert camera.fps is None


def test_a_file_may_have_any_name(portrait_clip: Path, tmp_path: Path) -> None:
    """Also one that would be a pipeline's."""
    odd = tmp_path / "look! appsink.mp4"
    odd.write_bytes(portrait_clip.read_bytes())
    with Camera(str(odd)) as camera:
        assert not camera.live and len(_all(camera)) == 30


def test_numbered_pictures_are_a_file(tmp_path: Path) -> None:
    for number, frame in enumerate(frames([], 5)):
        cv2.imwrite(str(tmp_path / f"img{number:03d}.png"), frame)
    with Camera(str(tmp_path / "img%03d.png")) as camera:
        assert not camera.live
        assert [drawn_number(f.image) for f in _all(camera)] == list(range(5))
    with pytest.raises(DataError, match="cannot read it as a video"):
        Camera(str(tmp_path / "none%03d.png"))


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A video of ten frames in a folder that is served, and the address of that folder."""
    path = tmp_path / "a.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 15, (640, 480))
    for frame in frames([], 10):
        writer.write(frame)
    writer.release()
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield path, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_video_at_an_address_ends(served: tuple[Path, str]) -> None:
    with Camera(f"{served[1]}/a.avi?door=1") as camera:
        assert not camera.live
        assert [drawn_number(f.image) for f in _all(camera)] == list(range(10))
        assert camera.ended and camera.reconnects == 0


def test_a_source_is_back_with_its_first_frame(
    served: tuple[Path, str], caplog: pytest.LogCaptureFixture
) -> None:
    """One that can be opened, and opened, and gives nothing, is not."""
    path, address = served
    video = path.read_bytes()
    door = path.with_name("door")
    door.write_bytes(video)
    with Camera(f"{address}/door", live=False) as camera:
        while (frame := camera.read(10)) is not None and frame.number < 9:
            door.write_bytes(video[: video.index(b"movi") + 4])  # its head, without a frame
        assert wait_for(lambda: caplog.text.count("lost") >= 3, 10)
        assert camera.read(0.1) is None and camera.reconnects == 0
        door.write_bytes(video)
        frame = camera.read(10)
        assert frame is not None and frame.number == 10 and camera.reconnects == 1


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


def test_closing_does_not_wait_for_a_camera_that_never_answers(
    silent: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closed while OpenCV opens them; when that gives up, connections and threads are gone."""
    monkeypatch.setattr("gender_edge.camera.OPENING", 1.5)
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


def test_a_program_ends_well_while_a_camera_is_silent(silent: socket.socket) -> None:
    """Its thread is inside OpenCV when the last line is done, and comes back from there before
    Python is all taken down, which takes its time here.
    """
    program = f"""
import time
from gender_edge.camera import Camera

class Slow:
    def __del__(self, sleep=time.sleep):
        sleep(6)

slow = Slow()
camera = Camera("rtsp://127.0.0.1:{silent.getsockname()[1]}/door")
time.sleep(1)
camera.close()
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_closing_does_not_wait_for_a_camera_that_froze(rtsp: RtspServer) -> None:
    """Nor does its last picture stay in memory."""
    camera = Camera(rtsp.url, stale_after=2.0)
    frame = camera.read(15)
    assert frame is not None
    rtsp.freeze()
    pictures = [weakref.ref(frame.image)]
    del frame
    while (frame := camera.read(0.3)) is not None:
        pictures.append(weakref.ref(frame.image))
    assert camera._thread.is_alive() and not any(picture() is not None for picture in pictures)
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
        assert time.monotonic() - started < 5
        assert after is not None and after.number > before.number
        assert camera.reconnects == after.reconnects == 1 and before.reconnects == 0


def test_a_camera_that_was_silent_is_back(
    rtsp: RtspServer, caplog: pytest.LogCaptureFixture
) -> None:
    """It says nothing any more and keeps its connection, as one whose power went."""
    with Camera(rtsp.url) as camera:
        assert camera.read(15) is not None
        rtsp.freeze()
        started = time.monotonic()
        assert wait_for(lambda: any("lost" in r.getMessage() for r in caplog.records), 10)
        assert time.monotonic() - started < 4
        rtsp.thaw()
        assert wait_for(lambda: camera.reconnects == 1, 5)


def test_attempts_are_spaced_out() -> None:
    """A server that hangs up at once is asked after pauses that double up to their bound."""
    expected = [FIRST_PAUSE]
    while expected[-2:] != [LONGEST_PAUSE] * 2:
        expected.append(min(2 * expected[-1], LONGEST_PAUSE))
    attempts = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        with Camera(f"rtsp://127.0.0.1:{server.getsockname()[1]}/door"):
            while len(attempts) <= len(expected):
                server.accept()[0].close()
                attempts.append(time.monotonic())
    for gap, pause in zip(np.diff(attempts), expected):
        assert 0.9 * pause < gap < pause + 0.6


USER, PASSWORD = "anna", "geheim"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("rtsp://{u}:{p}@host:554/door", "rtsp://host:554/door"),
        ("rtsp://{u}:pa!ss{p}@host/door", "rtsp://host/door"),
        ("rtsp://{u}:p@ss{p}@host/door", "rtsp://host/door"),
        ("rtsp://{u}:p@ss/{p}@host/door", "rtsp://host/door"),
        ('rtsp://{u}:12/3?{p} #"@host/door', "rtsp://host/door"),
        ("rtsp://{u}@x.org:{p}@host/door", "rtsp://host/door"),
        (
            "http://host:80/a?user={u}&password={p}&c=1",
            "http://host:80/a?user=***&password=***&c=***",
        ),
        ("http://host/a?pwd={p} {p}&c=1", "http://host/a?pwd=***&c=***"),
        ("rtsp://h/s?u={u}&p={p}", "rtsp://h/s?u=***&p=***"),
        ("http://h:80/s.mp4?sig={p}?/{p};jwt={p}#{p}", "http://h:80/s.mp4?sig=***"),
        ("http://h/s?{p}&jwt=", "http://h/s?***&jwt=***"),
        ("a location=http://h/s?p={p} b=0 ! c d=1", "a location=http://h/s?p=*** b=0 ! c d=1"),
        ('a location="http://h/s?jwt={p}" ! c', 'a location="http://h/s?jwt=*** ! c'),
        ("rtsp://host/user={u}_password={p}_channel=1.sdp", "rtsp://host/user=***"),
        ("a location=rtsp://{u}:{p}@host/b ! appsink", "a location=rtsp://host/b ! appsink"),
        ('a location="rtsp://{u}:x {p}@host/b" ! c', 'a location="rtsp://host/b" ! c'),
        ("a user-id={u} user-pw={p}!{p} latency=0 ! b", "a user-id=*** user-pw=*** latency=0 ! b"),
        ('a user-pw="x \\" {p}" b=0 ! c', "a user-pw=*** b=0 ! c"),
        ("a user-pw = {p} ! b", "a user-pw = *** ! b"),
    ],
)
def test_passwords_are_not_shown(source: str, expected: str) -> None:
    secret = source.format(u=USER, p=PASSWORD)
    assert shown(secret) == expected and USER not in expected and PASSWORD not in expected


@pytest.mark.parametrize(
    "source",
    [0, "rtsp://host/a@b", "a@b: c.mp4", "why?u=me.mp4", "v4l2src device=/dev/video0 ! appsink"],
)
def test_what_is_no_secret_is_shown(source: int | str) -> None:
    assert shown(source) == str(source)


def test_no_thread_and_no_line_of_the_log_tells_a_password(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with Camera(f"rtsp://{USER}:{PASSWORD}@127.0.0.1:{port}/door") as camera:
        assert wait_for(lambda: "cannot be opened" in caplog.text, 10)
        names = " ".join(thread.name for thread in threading.enumerate())
        assert f"camera rtsp://127.0.0.1:{port}/door" == camera._thread.name
    assert not any(word in names + caplog.text for word in (USER, PASSWORD))
