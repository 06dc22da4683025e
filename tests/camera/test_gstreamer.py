from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gender_edge import Classifier, DataError, gstreamer
from gender_edge.camera import Camera
from gender_edge.faces import Detector
from gender_edge.gstreamer import Appsink
from gender_edge.pipeline import Pipeline
from tests.camera.conftest import RtspServer, wait_for
from tests.conftest import ROOT

SYSTEM_PACKAGES = Path("/usr/lib/python3/dist-packages")  # Debian's
PICTURE = "filesrc location={} ! pngdec ! imagefreeze is-live=true"
INSTALL = (
    "apt-get install python3-gi gir1.2-gstreamer-1.0 gstreamer1.0-plugins-base "
    "gstreamer1.0-plugins-good"
)
RATE = "video/x-raw,framerate=20/1"

# PyGObject's own affair.
pytestmark = pytest.mark.filterwarnings("ignore:DynamicImporter:ImportWarning")


@pytest.fixture(autouse=True)
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """GStreamer's Python packages: this Python's, or the system's where they fit this one."""
    (tmp_path / "gi").symlink_to(SYSTEM_PACKAGES / "gi")
    if importlib.util.find_spec("gi") is None:
        monkeypatch.syspath_prepend(tmp_path)
    try:
        import gi

        gi.require_version("Gst", "1.0")
    except (ImportError, ValueError) as error:
        pytest.skip(f"no GStreamer for this Python ({error}): {INSTALL}")
    if gstreamer._import().ElementFactory.find("pngdec") is None:
        pytest.skip(f"no plugins of GStreamer: {INSTALL}")


def test_pixels_are_as_the_pipeline_has_them() -> None:
    """In BGR, whole rows without what pads them, and writable as OpenCV's are."""
    sent = "videotestsrc pattern=solid-color foreground-color=0xff3050c0"
    sink = Appsink(
        f"{sent} ! video/x-raw,format=RGB,width=161,height=120 ! videoconvert ! appsink", 5, 5
    )
    there, image = sink.read()
    sink.release()
    assert sink.opened and there and image is not None and image.flags.writeable
    assert image.shape == (120, 161, 3) and (image == (0xC0, 0x50, 0x30)).all()


@pytest.mark.parametrize("live", ["true", "false"])
def test_a_pipeline_ends_where_it_says_so(live: str) -> None:
    """After so many frames, which is no loss; it may then begin anew."""
    source = f"videotestsrc num-buffers=5 is-live={live} ! {RATE} ! videoconvert ! appsink"
    with Camera(source) as own:
        numbers = [frame.number for _ in range(10) if (frame := own.read(10)) is not None]
        assert own.live and own.ended and own.reconnects == 0
    assert numbers == sorted(set(numbers)) and len(numbers) + own.dropped == 5
    with Camera(source, live=False, loop=True) as own:
        taken = [frame for _ in range(12) if (frame := own.read(10)) is not None]
        assert [frame.number for frame in taken] == list(range(12)) and own.reconnects == 0


def test_a_camera_that_goes_away_is_no_end(rtsp: RtspServer) -> None:
    """Though GStreamer calls it one: an RTSP server that is stopped says goodbye."""
    decoded = "rtpjpegdepay ! jpegdec ! videoconvert ! appsink"
    with Camera(f"rtspsrc location={rtsp.url} protocols=tcp latency=0 ! {decoded}") as camera:
        assert camera.read(15) is not None
        rtsp.kill()
        assert wait_for(lambda: camera.read(0.5) is None, 15) and not camera.ended
        rtsp.start()
        assert camera.read(5) is not None and camera.reconnects == 1


def test_a_source_may_appear_later(
    portrait_path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    picture = tmp_path / "a.png"
    with Camera(f"{PICTURE.format(picture)} ! {RATE} ! videoconvert ! appsink") as camera:
        assert camera.read(0.3) is None
        assert "gender_edge.gstreamer" in {record.name for record in caplog.records}  # its reason
        shutil.copyfile(portrait_path, picture)
        frame = camera.read(10)
    assert frame is not None and frame.image.shape == (512, 512, 3)


def test_faces_of_a_pipeline(
    portrait_path: Path, classifier: Classifier, center_face: Detector
) -> None:
    source = f"{PICTURE.format(portrait_path)} ! {RATE} ! videoconvert ! appsink"
    with Pipeline([source], classifier, center_face) as pipeline:
        (face,) = next(iter(pipeline)).faces
    assert face.female > 0.8


def test_other_libraries_still_throw(tmp_path: Path) -> None:
    """OpenVINO, loaded after GStreamer: a process of its own, because here it may be loaded."""
    pytest.importorskip("openvino")
    program = """
from gender_edge import Classifier
from gender_edge.gstreamer import Appsink
sink = Appsink("videotestsrc ! videoconvert ! appsink", 5, 5)
assert sink.read()[0]
Classifier(device="openvino")
"""
    paths = os.pathsep.join([str(ROOT), str(tmp_path)])
    environment = {**os.environ, "PYTHONPATH": paths}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)


def test_what_cannot_run_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match='no element "nonsense"'):
        Camera("nonsense ! appsink")
    with pytest.raises(DataError, match="without an appsink"):
        Camera("videotestsrc ! fakesink")
    monkeypatch.setitem(sys.modules, "gi", None)
    with pytest.raises(DataError, match="python3-gi"):
        Camera("videotestsrc ! appsink")
