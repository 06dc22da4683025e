"""A camera in a pipeline: its tracks and its counts."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from typing import Any, Optional

from .camera import Camera, Frame
from .delays import Delays
from .faces import Faces
from .sources import shown
from .tracks import Track, Tracker

logger = logging.getLogger(__name__)

REMEMBERED = 512  # frames that rates are taken of


class Lane:
    """What a pipeline keeps of one camera."""

    def __init__(self, number: int, camera: Camera, tracker: Tracker) -> None:
        self.number, self.camera, self.tracker = number, camera, tracker
        self.thread: Optional[threading.Thread] = None
        self.frames = self.faces = self.answers = self.unaligned = self.uncut = 0
        self._reconnects = 0
        self._latencies = Delays()
        self._arrivals: deque[float] = deque(maxlen=REMEMBERED)

    def follow(self, frame: Frame, faces: Faces) -> list[Track]:
        """One track per face; none outlasts the camera's connection."""
        if frame.reconnects != self._reconnects:
            self.tracker.cut()
            self._reconnects = frame.reconnects
        return self.tracker.update(faces, frame.arrived if frame.moment is None else frame.moment)

    def note(self, frame: Frame, latency: float, faces: int, answers: int) -> None:
        """Count a frame that was served."""
        self.frames += 1
        self.faces += faces
        self.answers += answers
        self._latencies.add(latency)
        self._arrivals.append(frame.arrived)

    def tell_once(self, count: int, frame: Frame, what: str, why: str) -> None:
        """Warn of the first such face of this camera; log later ones at DEBUG."""
        level = logging.WARNING if count == 1 else logging.DEBUG
        logger.log(
            level, "%s, frame %d: %s: %s", shown(self.camera.source), frame.number, what, why
        )

    def stats(self) -> dict[str, Any]:
        """Frames served and dropped, frames a second of late, percentiles of `Result.latency` in ms
        over all frames; faces seen, classified, cut by their box though they had landmarks, and not
        to be cut; tracks by label, label flips.
        """
        arrivals = list(self._arrivals)
        running = self.camera.live and not self.camera.ended
        last = time.monotonic() if running else arrivals[-1] if arrivals else 0.0
        span = last - arrivals[0] if len(arrivals) > 1 else 0.0
        return {
            "camera": self.number,
            "source": shown(self.camera.source),
            "frames": self.frames,
            "dropped": self.camera.dropped,
            "reconnects": self.camera.reconnects,
            "fps": (len(arrivals) - 1) / span if span else 0.0,
            **self._latencies.percentiles(),
            "faces": self.faces,
            "answers": self.answers,
            "unaligned": self.unaligned,
            "uncut": self.uncut,
            "tracks": self.tracker.counts(),
            "flips": self.tracker.flips(),
        }
