"""The newest frame of whatever OpenCV opens: device, file, RTSP address, GStreamer pipeline."""

from __future__ import annotations

import atexit
import logging
import math
import threading
import time
import weakref
from dataclasses import dataclass
from typing import Optional, Union

import cv2
import numpy as np

from . import gstreamer
from .errors import ArgumentError, DataError
from .sources import by_gstreamer, for_opencv, is_address, is_file, is_pipeline, shown

logger = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.25, 1.0  # s between attempts to reconnect, doubling
OPENING = 5.0  # s that a live source may take until it is open
STALE_AFTER = 3.0  # s without a frame before the source counts as lost
LONGEST_PATIENCE = 86400.0  # s; OpenCV counts milliseconds in 32 bits
CLOSING = 0.5  # s that closing waits for OpenCV to return
EXITING = (
    10.0  # s that the end of the program waits for that: OpenCV gives a silent camera up before
)


@dataclass(frozen=True)
class Frame:
    """One picture of a camera.

    Attributes:
        image: uint8 (H, W, 3) BGR.
        number: of the frames that the camera has delivered, from 0, dropped ones included.
        time: when it was read, seconds since the epoch.
        arrived: the same moment on the monotonic clock.
        moment: its place in a file, in seconds, as the file says (of one that is looped, by its
            number and the file's rate); None where the source is no file.
        reconnects: of the camera until then: whoever was seen before one may have gone.
    """

    image: np.ndarray
    number: int
    time: float
    arrived: float
    moment: Optional[float]
    reconnects: int


class Camera:
    """Reads a source in a thread of its own and hands out its newest frame, each at most once.

    A live source never waits for its reader: frames that nobody took in time are dropped and
    counted. If it fails it is opened again, with a pause that doubles from a quarter of a second to
    one. A file is read frame by frame as they are asked for, and ends; so does a pipeline that
    reads one.

    Args:
        source: device number, file (also pictures by a pattern such as `img%03d.png`, and an
            address over HTTP that ends like a video's), address, or GStreamer pipeline (with an
            `!` in it, and an `appsink` at its end); see `gender_edge.gstreamer`.
        live: drop what is not taken in time; None: everything but a file is live. A live file is
            played at its own speed, as if it were a camera.
        loop: what has an end begins anew there.
        stale_after: seconds without a frame after which a live source counts as lost; None for
            three; a local device has ten of OpenCV's own. Slower cameras want more.

    Attributes:
        source: as given.
        fps: frames a second that a file states (25 where it does not); None of other sources.
        dropped: frames that nobody took.
        reconnects: how often a source that was lost gave frames again.

    Raises:
        DataError: a file that is not there or no video, or no pipeline that can run here. (A live
            source may appear later.)
        ArgumentError: `stale_after` is not above 0, or more than a day.
    """

    def __init__(
        self,
        source: Union[int, str],
        *,
        live: Optional[bool] = None,
        loop: bool = False,
        stale_after: Optional[float] = None,
    ) -> None:
        text = for_opencv(str(source))
        self.source: Union[int, str] = int(text) if text.isdecimal() else text
        file = isinstance(self.source, str) and is_file(self.source)
        if by_gstreamer(self.source):
            gstreamer.check(str(self.source))
        self.live = not file if live is None else live
        self.dropped, self.reconnects = 0, 0
        self._finite, self._loop = file, loop
        patience = STALE_AFTER if stale_after is None else stale_after
        if not 0 < patience <= LONGEST_PATIENCE:
            raise ArgumentError(
                f"stale_after={stale_after}: expected seconds, above 0 and at most a day's"
            )
        self._patience = None if file else patience
        self._changed = threading.Condition()
        self._newest: Optional[Frame] = None
        self._ended, self._given_up = False, math.inf
        # A live source is opened in the thread: that may take seconds.
        capture = _open(self.source, None) if file else None
        if capture is None and file:
            raise DataError(f"{shown(text)}: OpenCV cannot read it as a video")
        self.fps = None if capture is None else capture.get(cv2.CAP_PROP_FPS) or 25.0
        name = f"camera {shown(text)}"
        self._thread = threading.Thread(target=self._run, args=(capture,), name=name, daemon=True)
        _begun.add(self)
        self._thread.start()

    def read(self, timeout: Optional[float] = None) -> Optional[Frame]:
        """The newest frame that was not handed out yet, as soon as there is one.

        Args:
            timeout: seconds to wait at most; None for as long as it takes.

        Returns:
            None at the end of the source, when closed, or after the timeout; see `ended`.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._newest is not None or self._ended, timeout)
            frame, self._newest = self._newest, None
            self._changed.notify_all()
        return frame

    @property
    def ended(self) -> bool:
        """Whether no further frame will come."""
        with self._changed:
            return self._ended and self._newest is None

    def stop(self) -> None:
        """Ask the thread to end; a waiting `read` returns None."""
        with self._changed:
            self._ended, self._newest = True, None
            self._given_up = min(self._given_up, time.monotonic() + CLOSING)
            self._changed.notify_all()

    def close(self) -> None:
        """Stop reading and free the source.

        It waits for half a second since `stop` at most. A thread that is still inside OpenCV, which
        cannot be interrupted while it opens or reads, frees the source itself as soon as OpenCV
        returns (for an address after some seconds, which the end of the program waits for).
        """
        self.stop()
        self._thread.join(timeout=max(0.0, self._given_up - time.monotonic()))
        if self._thread.is_alive():
            logger.warning(
                "%s: still busy inside OpenCV; it is freed when that returns", shown(self.source)
            )

    def __enter__(self) -> Camera:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, capture: Optional[cv2.VideoCapture]) -> None:
        try:
            self._follow(capture)
        except Exception:  # the reader must not wait for ever for a thread that is gone
            logger.exception("%s: gave up", shown(self.source))
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _follow(self, capture: Optional[cv2.VideoCapture]) -> None:
        """Read, and open again, to the end of the source or until closed."""
        number, pause, due, lost = 0, 0.0, time.monotonic(), False
        while not self._stopped():
            if capture is None:
                if self._wait(pause):
                    return
                capture = _open(self.source, self._patience)
                if capture is None and pause == 0:
                    logger.warning("%s: cannot be opened; trying again", shown(self.source))
                pause = min(max(2 * pause, FIRST_PAUSE), LONGEST_PAUSE)
                continue
            image = _next(capture)
            if image is None:
                over = self._finite or _at_end(capture)
                capture.release()
                capture = None
                if over and not self._loop:
                    return
                if not over:
                    logger.warning("%s: lost; trying again", shown(self.source))
                lost = number > 0 and not over
                continue
            self.reconnects, lost = self.reconnects + lost, False
            pause, moment = FIRST_PAUSE, None
            if self.fps is not None:
                pause, moment = 0.0, self._place(capture, number, self.fps)
                if self.live:
                    due = self._play(due, self.fps)
            self._offer(image, number, moment)
            del image  # it may take long until the next one
            number += 1
        if capture is not None:
            capture.release()

    def _place(self, capture: cv2.VideoCapture, number: int, fps: float) -> float:
        """Where in its file the last frame is, in seconds, by the file's own clock if it has one:
        many videos have no even rate.
        """
        told = 0.0 if self._loop else capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        return told if told > 0 else number / fps

    def _offer(self, image: np.ndarray, number: int, moment: Optional[float]) -> None:
        with self._changed:
            if not self.live:
                self._changed.wait_for(lambda: self._newest is None or self._ended)
            elif self._newest is not None:
                self.dropped += 1
            if not self._ended:
                now = time.monotonic()
                self._newest = Frame(image, number, time.time(), now, moment, self.reconnects)
            self._changed.notify_all()

    def _play(self, due: float, fps: float) -> float:
        """Wait until a file's next frame is due; returns when the one after it is."""
        self._wait(max(0.0, due - time.monotonic()))
        return due + 1 / fps

    def _stopped(self) -> bool:
        with self._changed:
            return self._ended

    def _wait(self, seconds: float) -> bool:
        """Pause between attempts; True if closed meanwhile."""
        with self._changed:
            return self._changed.wait_for(lambda: self._ended, seconds)


_begun: weakref.WeakSet[Camera] = weakref.WeakSet()


@atexit.register
def _end() -> None:
    """A thread that came back from OpenCV while Python is taken down would abort the process."""
    cameras, end = list(_begun), time.monotonic() + EXITING
    for camera in cameras:
        camera.stop()
    for camera in cameras:
        camera._thread.join(max(0.0, end - time.monotonic()))


def _next(capture: cv2.VideoCapture) -> Optional[np.ndarray]:
    """The next picture; None where there is none, or it cannot be decoded."""
    try:
        there, image = capture.read()
    except cv2.error as error:
        logger.warning("%s", error.err)
        return None
    return image if there else None


def _at_end(capture: object) -> bool:
    """Whether a source that gives no more has said that this was all."""
    return isinstance(capture, gstreamer.Appsink) and capture.ended


def _open(source: Union[int, str], patience: Optional[float]) -> Optional[cv2.VideoCapture]:
    """An opened capture, or None. Without patience, as for a file, OpenCV waits half a minute."""
    limits = []
    if patience is not None:
        limits += [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, int(1000 * OPENING)]
        limits += [cv2.CAP_PROP_READ_TIMEOUT_MSEC, int(1000 * patience)]
    try:
        if isinstance(source, str) and is_address(source):
            capture = cv2.VideoCapture(source, cv2.CAP_FFMPEG, limits)
        elif patience is not None and by_gstreamer(source):
            appsink = gstreamer.Appsink(str(source), patience, OPENING)
            return appsink if appsink.opened else None  # type: ignore[return-value] # its stand-in
        elif is_pipeline(source):
            capture = cv2.VideoCapture(source, cv2.CAP_GSTREAMER)
        else:
            capture = cv2.VideoCapture(source)
    except cv2.error as error:
        logger.warning("%s: %s", shown(source), error.err)
        return None
    return capture if capture.isOpened() else None
