"""GStreamer pipelines by GStreamer's own Python packages, which are imported when the first one is
opened: OpenCV from pip has no GStreamer.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
from typing import Any, Optional

import numpy as np

from .errors import DataError

logger = logging.getLogger(__name__)

MESSAGE_AFTER = 0.1  # s: a pipeline may stop before the reason is there


class Appsink:
    """A running pipeline, with the members of OpenCV's `VideoCapture` that a live source needs.

    Args:
        pipeline: as for `gst-launch-1.0`, with an `appsink` at its end that can take BGR
            (`... ! videoconvert ! appsink`).
        patience: seconds to wait for each frame at most.
        starting: the same for the start and the first frame.

    Attributes:
        opened: whether it runs; if not, the log has GStreamer's reason.
        ended: whether it has said that this was all: at the end of a file, or after `num-buffers`.
            (A live source's end of stream is a camera that went away, as RTSP's BYE is.)

    Raises:
        DataError: there is no GStreamer here, or this is no such pipeline.
    """

    def __init__(self, pipeline: str, patience: float, starting: float) -> None:
        self._gst = _import()
        self._pipeline, self._sink = _parse(self._gst, pipeline)
        self._patience = int(patience * self._gst.SECOND)
        self._next_patience = int(starting * self._gst.SECOND)
        self._pipeline.set_state(self._gst.State.PLAYING)
        change = self._pipeline.get_state(self._next_patience)[0]
        running = (self._gst.StateChangeReturn.SUCCESS, self._gst.StateChangeReturn.NO_PREROLL)
        self.opened, self.ended = change in running, False
        self._finite = not self._live() or any(map(_counted, self._pipeline.children))
        if not self.opened:
            self._listen(MESSAGE_AFTER)
            self.release()

    def read(self) -> tuple[bool, Optional[np.ndarray]]:
        """Whether there was a frame in time, and that frame: uint8 (H, W, 3) BGR."""
        sample = self._sink.emit("try-pull-sample", self._next_patience)
        self._next_patience = self._patience
        self._listen(0.0 if sample else MESSAGE_AFTER)
        if sample is None:
            return False, None
        buffer, form = sample.get_buffer(), sample.get_caps().get_structure(0)
        height, width = form.get_value("height"), form.get_value("width")
        # GStreamer pads rows to whole words.
        rows = np.frombuffer(buffer.extract_dup(0, buffer.get_size()), np.uint8).reshape(height, -1)
        return True, rows[:, : 3 * width].reshape(height, width, 3).copy()

    def release(self) -> None:
        """Stop the pipeline and free what it holds."""
        self._pipeline.set_state(self._gst.State.NULL)

    def _live(self) -> bool:
        """Whether frames come in their own time, as a camera's, rather than as they are wanted."""
        latency = self._gst.Query.new_latency()
        known = self._sink.get_static_pad("sink").peer_query(latency)
        return bool(known and latency.parse_latency()[0])

    def _listen(self, wait: float) -> None:
        """Log an error or note the end, if GStreamer tells one in time, and drop the rest."""
        kinds = self._gst.MessageType
        bus = self._pipeline.get_bus()
        message = bus.timed_pop_filtered(int(wait * self._gst.SECOND), kinds.ERROR | kinds.EOS)
        if message is None:
            return
        if message.type == kinds.EOS:
            self.ended = self._finite
            return
        self._finite = False  # an end that follows an error is none
        logger.warning("%s: %s", message.src.get_name(), message.parse_error()[0].message)


def _counted(element: Any) -> bool:
    """Whether an element was told how many frames to give."""
    counts = element.find_property("num-buffers") is not None
    return counts and element.get_property("num-buffers") >= 0


def check(pipeline: str) -> None:
    """Parse a pipeline without running it.

    Raises:
        DataError: there is no GStreamer here, or this is no pipeline that ends in an appsink.
    """
    _parse(_import(), pipeline)


def installed() -> bool:
    """Whether GStreamer's Python packages are here."""
    try:
        _import()
    except DataError:
        return False
    return True


def _import() -> Any:
    """The module Gst, initialised."""
    # Debian's GStreamer brings libunwind, whose _Unwind_* would take the place of libgcc's in all
    # that is loaded later: the first C++ exception in there, as in OpenVINO, would end the process.
    with contextlib.suppress(OSError):  # not Linux
        ctypes.CDLL("libgcc_s.so.1", ctypes.RTLD_GLOBAL)
    try:
        import gi

        gi.require_version("Gst", "1.0")
        from gi.repository import Gst
    except (ImportError, ValueError) as error:
        raise DataError(
            f"a GStreamer pipeline wants GStreamer's Python packages ({error}), or an OpenCV built "
            "with GStreamer: apt-get install python3-gi gir1.2-gstreamer-1.0 "
            "gstreamer1.0-plugins-good, in an environment made with --system-site-packages"
        ) from error
    Gst.init(None)
    return Gst


def _parse(gst: Any, text: str) -> tuple[Any, Any]:
    """A pipeline that does not run yet, and its appsink."""
    from gi.repository import GLib

    try:
        pipeline = gst.parse_launch(text)
    except GLib.Error as error:
        raise DataError(f"GStreamer: {error.message}; try it with gst-launch-1.0") from error
    for element in pipeline.children:
        if element.get_factory().get_name() == "appsink":
            element.set_property("caps", gst.Caps.from_string("video/x-raw,format=BGR"))
            element.set_property("max-buffers", 1)  # it would keep every frame not taken yet
            return pipeline, element
    raise DataError("a GStreamer pipeline without an appsink: end it in `! videoconvert ! appsink`")
