"""The newest frame of whatever OpenCV opens: device, file, RTSP address, GStreamer pipeline."""

from __future__ import annotations

import logging
import math
import re
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Union

import cv2
import numpy as np

from . import gstreamer
from .errors import DataError

logger = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.25, 2.0  # s between attempts to reconnect, doubling
STALE_AFTER = 5.0  # s without a frame before the source counts as lost
CLOSING = 0.5  # s that closing waits for OpenCV to return


@dataclass(frozen=True)
class Frame:
    """One picture of a camera.

    Attributes:
        image: uint8 (H, W, 3) BGR.
        number: of the frames that the camera has delivered, from 0, dropped ones included.
        time: when it was read, seconds since the epoch.
        arrived: the same moment on the monotonic clock.
    """

    image: np.ndarray
    number: int
    time: float
    arrived: float


class Camera:
    """Reads a source in a thread of its own and hands out its newest frame, each at most once.

    A live source never waits for its reader: frames that nobody took in time are dropped and
    counted. If it fails it is opened again, with a pause that doubles from a quarter of a second to
    two. A file is read frame by frame as they are asked for, and ends.

    Args:
        source: device number, file, address, or GStreamer pipeline (with an `!` in it, and an
            `appsink` at its end); see `gender_edge.gstreamer`.
        live: drop what is not taken in time; None: everything but a file is live. A live file is
            played at its own speed, as if it were a camera.
        loop: a file begins anew at its end.

    Attributes:
        source: as given.
        dropped: frames that nobody took.
        reconnects: how often a source that was lost was there again.

    Raises:
        DataError: a file that is not there or no video, or no pipeline that can run here. (A live
            source may appear later.)
    """

    def __init__(
        self, source: Union[int, str], *, live: Optional[bool] = None, loop: bool = False
    ) -> None:
        text = str(source)
        self.source: Union[int, str] = int(text) if text.isdigit() else text
        file = isinstance(self.source, str) and _is_file(self.source)
        if _by_gstreamer(self.source):
            gstreamer.check(str(self.source))
        self.live = not file if live is None else live
        self.dropped, self.reconnects = 0, 0
        self._finite, self._loop = file, loop
        self._changed = threading.Condition()
        self._newest: Optional[Frame] = None
        self._ended, self._given_up = False, math.inf
        capture = _open(self.source) if file else None  # opening a live source may take seconds
        if capture is None and file:
            raise DataError(f"{source}: OpenCV cannot read it as a video")
        self._thread = threading.Thread(
            target=self._run, args=(capture,), name=f"camera {source}", daemon=True
        )
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
        returns (for an address after some seconds); it does not keep the program from ending.
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
        number, pause, due, opened = 0, 0.0, time.monotonic(), capture is not None
        while not self._stopped():
            if capture is None:
                if (self._finite and not self._loop) or self._wait(pause):
                    return
                capture = _open(self.source)
                if capture is None and pause == 0:
                    logger.warning("%s: cannot be opened; trying again", shown(self.source))
                self.reconnects += capture is not None and opened and not self._finite
                opened = opened or capture is not None
                pause = min(max(2 * pause, FIRST_PAUSE), LONGEST_PAUSE)
                continue
            image = _next(capture)
            if image is None:
                capture.release()
                capture = None
                if not self._finite:
                    logger.warning("%s: lost; trying again", shown(self.source))
                continue
            pause = 0.0 if self._finite else FIRST_PAUSE
            if self._finite and self.live:
                due = self._play(due, capture.get(cv2.CAP_PROP_FPS))
            self._offer(image, number)
            number += 1
        if capture is not None:
            capture.release()

    def _offer(self, image: np.ndarray, number: int) -> None:
        with self._changed:
            if not self.live:
                self._changed.wait_for(lambda: self._newest is None or self._ended)
            elif self._newest is not None:
                self.dropped += 1
            if not self._ended:
                self._newest = Frame(image, number, time.time(), time.monotonic())
            self._changed.notify_all()

    def _play(self, due: float, fps: float) -> float:
        """Wait until a file's next frame is due; returns when the one after it is."""
        self._wait(max(0.0, due - time.monotonic()))
        return due + 1 / (fps or 25.0)

    def _stopped(self) -> bool:
        with self._changed:
            return self._ended

    def _wait(self, seconds: float) -> bool:
        """Pause between attempts; True if closed meanwhile."""
        with self._changed:
            return self._changed.wait_for(lambda: self._ended, seconds)


def shown(source: Union[int, str]) -> str:
    """A source as it may be shown: without user and password, of a pipeline's address too."""
    return re.sub(r"(\w+://)[^/@\s]*@", r"\1", str(source))


def _is_address(source: str) -> bool:
    return re.match(r"\w+://", source) is not None


def _is_pipeline(source: Union[int, str]) -> bool:
    return isinstance(source, str) and "!" in source and not _is_address(source)


def _by_gstreamer(source: Union[int, str]) -> bool:
    """Whether a source is a pipeline, and OpenCV has no GStreamer to run it."""
    return _is_pipeline(source) and not cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER)


def _next(capture: cv2.VideoCapture) -> Optional[np.ndarray]:
    """The next picture; None where there is none, or it cannot be decoded."""
    try:
        there, image = capture.read()
    except cv2.error as error:
        logger.warning("%s", error.err)
        return None
    return image if there else None


def _is_file(source: str) -> bool:
    """Whether a source is a file rather than an address or a pipeline.

    Raises:
        DataError: it looks like one and is not there.
    """
    if _is_address(source) or _is_pipeline(source) or source.startswith("/dev/"):
        return False
    if not Path(source).is_file():
        raise DataError(f"{source}: no such file, and neither device number nor address")
    return True


def _open(source: Union[int, str]) -> Optional[cv2.VideoCapture]:
    """An opened capture, or None."""
    patience = int(1000 * STALE_AFTER)
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, patience, cv2.CAP_PROP_READ_TIMEOUT_MSEC, patience]
    try:
        if isinstance(source, str) and _is_address(source):
            capture = cv2.VideoCapture(source, cv2.CAP_FFMPEG, limits)
        elif _by_gstreamer(source):
            appsink = gstreamer.Appsink(str(source), STALE_AFTER)
            return appsink if appsink.opened else None  # type: ignore[return-value] # its stand-in
        elif _is_pipeline(source):
            capture = cv2.VideoCapture(source, cv2.CAP_GSTREAMER)
        else:
            capture = cv2.VideoCapture(source)
    except cv2.error as error:
        logger.warning("%s: %s", shown(source), error.err)
        return None
    return capture if capture.isOpened() else None
