"""Many cameras, one classifier: frames to labelled tracks, in order for each camera.

A thread a camera detects and follows faces; crops of all cameras share batches. Frames and crops
are dropped as soon as their answers are there: counts and labels are what leaves, unless
`keep_frames` says otherwise.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Optional, Union

import numpy as np

from .batcher import Batcher
from .camera import Camera, Frame, shown
from .classifier import Classifier
from .errors import ImageError
from .faces import Detector, Faces
from .tracks import Smoothing, Track, Tracker

logger = logging.getLogger(__name__)

REMEMBERED = 512  # latencies that percentiles are taken of
PATIENCE = 0.1  # s between looks at whether a camera still runs
BACKLOG = 2  # results a camera may be ahead of who takes them


@dataclass(frozen=True)
class TrackedFace:
    """One face of one frame.

    Attributes:
        track: its number, the same in every frame of this camera.
        box: x, y, width, height in pixels.
        label: of the track so far: "female", "male", or None before there is reason for either.
        female: P(female) by the track's running mean.
        confidence: P(label) by the same mean; of the more probable label where there is none.
        decided: whether the track is asked only now and then.
    """

    track: int
    box: tuple[float, float, float, float]
    label: Optional[str]
    female: float
    confidence: float
    decided: bool


@dataclass(frozen=True)
class Result:
    """What one frame of one camera showed.

    Attributes:
        camera: place of the source in the pipeline's list.
        source: that source, without the password of an address.
        number: of the frame, as the camera counts.
        time: when it was read, seconds since the epoch.
        latency: seconds from then to this result.
        faces: in the detector's order.
        image: uint8 (H, W, 3) BGR with `keep_frames`, else None.
    """

    camera: int
    source: str
    number: int
    time: float
    latency: float
    faces: list[TrackedFace]
    image: Optional[np.ndarray]


class Pipeline:
    """Cameras, a detector and a classifier. Iterate over it for results; it ends with its cameras.

    Example:
        >>> with Pipeline([0, "rtsp://host/2"], Classifier(), faces.detector()) as pipeline:
        ...     for result in pipeline:
        ...         print(result.camera, [(f.track, f.label) for f in result.faces])

    Args:
        sources: what `Camera` opens, or cameras that are open already.
        classifier: shared by all; stays open when the pipeline is closed.
        detector: a callable from a BGR frame to `Faces`, safe to call from many threads.
        smoothing: how answers become labels; None for the usual rule.
        max_batch, max_delay: of the shared batches, in faces and seconds.
        keep_frames: hand out each frame's pixels with its result.
    """

    def __init__(
        self,
        sources: Sequence[Union[int, str, Camera]],
        classifier: Classifier,
        detector: Detector,
        *,
        smoothing: Optional[Smoothing] = None,
        max_batch: int = 64,
        max_delay: float = 0.02,
        keep_frames: bool = False,
    ) -> None:
        if not sources:
            raise ValueError("sources: expected at least one camera")
        self._detector, self._keep_frames = detector, keep_frames
        self._batcher = Batcher(classifier, max_batch=max_batch, max_delay=max_delay)
        self._results: queue.Queue[Any] = queue.Queue(BACKLOG * len(sources))
        self._closing = threading.Event()
        self._lanes: list[_Lane] = []
        try:
            for number, source in enumerate(sources):
                camera = source if isinstance(source, Camera) else Camera(source)
                tracker = Tracker(smoothing, classifier.spec.abstain_below)
                self._lanes.append(_Lane(number, camera, tracker))
        except BaseException:
            self.close()
            raise
        for lane in self._lanes:
            name = f"faces of camera {lane.number}"
            lane.thread = threading.Thread(target=self._serve, args=(lane,), name=name, daemon=True)
            lane.thread.start()

    def __iter__(self) -> Iterator[Result]:
        """Results as they come, until every camera has ended."""
        while True:
            over = not any(lane.thread and lane.thread.is_alive() for lane in self._lanes)
            try:
                item = self._results.get(block=not over, timeout=PATIENCE)
            except queue.Empty:
                if over:
                    return
                continue
            if isinstance(item, BaseException):
                self.close()
                raise item
            yield item

    async def __aiter__(self) -> AsyncIterator[Result]:
        """The same without blocking the event loop."""
        results, end = iter(self), object()
        while (result := await asyncio.to_thread(next, results, end)) is not end:
            yield result  # type: ignore[misc]

    def run(self, callback: Callable[[Result], None]) -> None:
        """Call with every result, until every camera has ended."""
        for result in self:
            callback(result)

    def stats(self) -> list[dict[str, Any]]:
        """Counts and rates, camera by camera; see `_Lane.stats`."""
        return [lane.stats() for lane in self._lanes]

    def batching(self) -> dict[str, Any]:
        """Of the shared batches: how many, faces in each, percentiles of what crops waited
        for their answers, inference included, in ms.
        """
        own, waits = self._batcher, list(self._batcher.waits)
        p50, p99 = np.percentile(waits, (50, 99)) if waits else (np.nan, np.nan)
        return {
            "batches": own.batches,
            "faces_per_batch": own.faces / own.batches if own.batches else 0.0,
            "p50_ms": None if not waits else float(1e3 * p50),
            "p99_ms": None if not waits else float(1e3 * p99),
        }

    def close(self) -> None:
        """Stop all cameras and threads; an iteration that runs ends."""
        self._closing.set()
        for lane in self._lanes:
            lane.camera.stop()
        for lane in self._lanes:
            lane.camera.close()
            if lane.thread is not None and lane.thread is not threading.current_thread():
                lane.thread.join()
        self._batcher.close()

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _serve(self, lane: _Lane) -> None:
        """One camera, frame by frame, to its end."""
        try:
            while not self._closing.is_set():
                frame = lane.camera.read()
                if frame is None:
                    return
                self._put(self._classified(lane, frame))
        except Exception as error:  # whoever iterates gets it
            self._put(error)

    def _classified(self, lane: _Lane, frame: Frame) -> Result:
        with self._batcher.caller():
            faces = self._detector(frame.image)
            tracks = lane.tracker.update(faces)
            asked, crops = [], []
            for number, track in enumerate(tracks):
                if track.wants_answer() and (crop := self._crop(frame, faces, number)) is not None:
                    asked.append(track)
                    crops.append(crop)
            answers = self._batcher.ask(crops)
        for track, female in zip(asked, answers):
            track.answer(float(female))
        latency = time.monotonic() - frame.arrived
        lane.note(frame, latency, len(faces), len(asked))
        return Result(
            camera=lane.number,
            source=shown(lane.camera.source),
            number=frame.number,
            time=frame.time,
            latency=latency,
            faces=[_as_face(track, box) for track, box in zip(tracks, faces.boxes)],
            image=frame.image if self._keep_frames else None,
        )

    def _crop(self, frame: Frame, faces: Faces, number: int) -> Optional[np.ndarray]:
        landmarks = None if faces.landmarks is None else faces.landmarks[number]
        try:
            return self._batcher.classifier.crop(
                frame.image, box=faces.boxes[number], landmarks=landmarks
            )
        except ImageError as error:  # a detector's box may lie outside its frame
            logger.debug("camera frame %d: %s", frame.number, error)
            return None

    def _put(self, item: Any) -> None:
        """Hand out, waiting for whoever takes; given up when closing."""
        while True:
            try:
                self._results.put(item, timeout=PATIENCE)
                return
            except queue.Full:
                if self._closing.is_set():
                    self._discard()

    def _discard(self) -> None:
        """Make room: nobody takes results any more."""
        try:
            self._results.get_nowait()
        except queue.Empty:
            return


def _as_face(track: Track, box: np.ndarray) -> TrackedFace:
    x, y, width, height = (float(v) for v in box)
    return TrackedFace(
        track=track.number,
        box=(x, y, width, height),
        label=track.label,
        female=track.female,
        confidence=max(track.female, 1 - track.female) if track.label is None else track.sureness,
        decided=track.decided,
    )


class _Lane:
    """A camera in a pipeline: its tracks and its counts."""

    def __init__(self, number: int, camera: Camera, tracker: Tracker) -> None:
        self.number, self.camera, self.tracker = number, camera, tracker
        self.thread: Optional[threading.Thread] = None
        self.frames = self.faces = self.answers = 0
        self._latencies: deque[float] = deque(maxlen=REMEMBERED)
        self._arrivals: deque[float] = deque(maxlen=REMEMBERED)

    def note(self, frame: Frame, latency: float, faces: int, answers: int) -> None:
        self.frames += 1
        self.faces += faces
        self.answers += answers
        self._latencies.append(latency)
        self._arrivals.append(frame.arrived)

    def stats(self) -> dict[str, Any]:
        """Frames served and dropped, frames a second, latency percentiles in ms, faces seen and
        classified, tracks by label, label flips.
        """
        arrivals, latencies = list(self._arrivals), list(self._latencies)
        running = self.camera.live and not self.camera.ended
        last = time.monotonic() if running else arrivals[-1] if arrivals else 0.0
        span = last - arrivals[0] if len(arrivals) > 1 else 0.0
        p50, p99 = np.percentile(latencies, (50, 99)) if latencies else (np.nan, np.nan)
        return {
            "camera": self.number,
            "source": shown(self.camera.source),
            "frames": self.frames,
            "dropped": self.camera.dropped,
            "reconnects": self.camera.reconnects,
            "fps": (len(arrivals) - 1) / span if span else 0.0,
            "p50_ms": None if not latencies else float(1e3 * p50),
            "p99_ms": None if not latencies else float(1e3 * p99),
            "faces": self.faces,
            "answers": self.answers,
            "tracks": self.tracker.counts(),
            "flips": self.tracker.flips(),
        }
