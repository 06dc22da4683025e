"""Many cameras, one classifier: frames to labelled tracks, in order for each camera.

One thread per camera detects and follows faces; crops of all cameras share batches. Frames and
crops are dropped as soon as their answers are there: counts and labels are what leaves, unless
`keep_frames` says otherwise.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Optional, Union

import numpy as np

from .batcher import Batcher
from .camera import Camera, Frame
from .classifier import Classifier
from .errors import ArgumentError, ImageError
from .faces import Faces, as_faces, by_landmarks_or_box
from .lane import Lane
from .sources import shown
from .tracks import Smoothing, Track, Tracker

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
        decided: whether the track is sure of its label, and asked only now and then.
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
        source: that source as `sources.shown` gives it: without passwords.
        number: of the frame, as the camera counts.
        time: when it was read, seconds since the epoch.
        moment: its place in a file, in seconds; None where the source is no file.
        latency: seconds from then until its answers were there; what the result then waits to be
            taken is not in it.
        faces: in the detector's order.
        image: uint8 (H, W, 3) BGR with `keep_frames`, else None.
    """

    camera: int
    source: str
    number: int
    time: float
    moment: Optional[float]
    latency: float
    faces: list[TrackedFace]
    image: Optional[np.ndarray]


class Pipeline:
    """Cameras, a detector and a classifier. Iterate over it for results, with `for` or `async for`;
    it ends with its cameras.

    Example:
        >>> with Pipeline([0, "rtsp://host/2"], Classifier(), faces.detector()) as pipeline:
        ...     for result in pipeline:
        ...         print(result.camera, [(f.track, f.label) for f in result.faces])

    Args:
        sources: what `Camera` opens, or cameras that are open already; those are closed with the
            pipeline, and also if it cannot be opened.
        classifier: shared by all; stays open when the pipeline is closed.
        detector: a callable from a BGR frame to what `faces.as_faces` reads, safe to call from
            many threads.
        smoothing: how answers become labels; None for the usual rule.
        max_batch, max_delay: of the shared batches, in faces (None: the classifier's) and seconds.
        keep_frames: hand out each frame's pixels with its result.

    Raises:
        ArgumentError: `sources` is no list, or empty; or as `Batcher`.
        DataError: a source cannot be opened.
    """

    def __init__(
        self,
        sources: Iterable[Union[int, str, Camera]],
        classifier: Classifier,
        detector: Callable[[np.ndarray], Any],
        *,
        smoothing: Optional[Smoothing] = None,
        max_batch: Optional[int] = None,
        max_delay: float = 0.02,
        keep_frames: bool = False,
    ) -> None:
        if isinstance(sources, (str, bytes)) or not isinstance(sources, Iterable):
            if isinstance(sources, Camera):
                sources.close()
            raise ArgumentError(f"sources={sources!r}: expected a list of them")
        sources = list(sources)
        if not sources:
            raise ArgumentError("sources: expected at least one camera")
        self._detector, self._keep_frames = detector, keep_frames
        given = [source for source in sources if isinstance(source, Camera)]
        self._lanes: list[Lane] = []
        try:
            for number, source in enumerate(sources):
                camera = source if isinstance(source, Camera) else Camera(source)
                tracker = Tracker(smoothing, classifier.spec.abstain_below)
                self._lanes.append(Lane(number, camera, tracker))
            faces = classifier.batch_size if max_batch is None else max_batch
            self._batcher = Batcher(classifier, max_batch=faces, max_delay=max_delay)
        except BaseException:
            _close(given + [lane.camera for lane in self._lanes])
            raise
        self._changed = threading.Condition()
        self._results: deque[Union[Result, Exception]] = deque()
        self._listeners: list[Callable[[], object]] = []  # event loops that wait for results
        self._running, self._closed = len(self._lanes), False
        for lane in self._lanes:
            name = f"faces of camera {lane.number}"
            lane.thread = threading.Thread(target=self._serve, args=(lane,), name=name, daemon=True)
            lane.thread.start()

    def __iter__(self) -> Iterator[Result]:
        """Results as they come, until every camera has ended."""
        while True:
            with self._changed:
                self._changed.wait_for(self._ready)
                item = self._take()
            if item is None:
                return
            if isinstance(item, Exception):
                self.close()
                raise item
            yield item
            del item  # with its picture, before the wait for the next

    def __aiter__(self) -> Pipeline:
        """The same for `async for`: the event loop goes on meanwhile."""
        return self

    async def __anext__(self) -> Result:
        """The next result. If it is cancelled, nothing is lost: the result is for the next call."""
        loop, news = asyncio.get_running_loop(), asyncio.Event()
        listener = partial(loop.call_soon_threadsafe, news.set)
        with self._changed:
            self._listeners.append(listener)
        try:
            await asyncio.sleep(0)  # others have their turn, though results never run out
            while True:
                with self._changed:
                    if self._ready():
                        item = self._take()
                        break
                await news.wait()
                news.clear()
        finally:
            with self._changed:
                self._listeners.remove(listener)
        if item is None:
            raise StopAsyncIteration
        if isinstance(item, Exception):
            await asyncio.to_thread(self.close)
            raise item
        return item

    def run(self, callback: Callable[[Result], None]) -> None:
        """Call with every result, until every camera has ended."""
        for result in self:
            callback(result)

    def stats(self) -> list[dict[str, Any]]:
        """Counts and rates, camera by camera; see `Lane.stats`."""
        return [lane.stats() for lane in self._lanes]

    def batching(self) -> dict[str, Any]:
        """Of the shared batches: how many, faces in each, percentiles of what crops waited
        for their answers, inference included, in ms, over the whole life of the pipeline.
        """
        own = self._batcher
        return {
            "batches": own.batches,
            "faces_per_batch": own.faces / own.batches if own.batches else 0.0,
            **own.waits.percentiles(),
        }

    def close(self) -> None:
        """Stop all cameras and threads; an iteration that runs ends."""
        with self._changed:
            self._closed = True
            self._tell()
        # Ctrl-C that comes while `with` takes the lock leaves it taken (Python issue 29988), and
        # the threads that are joined below would wait for it for ever.
        with contextlib.suppress(RuntimeError):  # not ours, as it should be
            while True:
                self._changed.release()
        _close([lane.camera for lane in self._lanes])
        for lane in self._lanes:
            if lane.thread is not None and lane.thread is not threading.current_thread():
                lane.thread.join()
        self._batcher.close()
        self._results.clear()

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Pipeline:
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.close)

    def _serve(self, lane: Lane) -> None:
        """One camera, frame by frame, to its end."""
        try:
            while self._step(lane):
                pass
        except Exception as error:  # whoever iterates gets it
            self._put(error)
        with self._changed:
            self._running -= 1
            self._tell()

    def _step(self, lane: Lane) -> bool:
        """The next frame of a camera; False at its end."""
        frame = lane.camera.read()
        if frame is None:
            return False
        result = self._classified(lane, frame)
        del frame  # it does not wait for whoever takes the result
        self._put(result)
        return True

    def _classified(self, lane: Lane, frame: Frame) -> Result:
        with self._batcher.caller():
            faces = as_faces(self._detector(frame.image))
            tracks = lane.follow(frame, faces)
            asked, crops = [], []
            for number, track in enumerate(tracks):
                if not track.wants_answer():
                    continue
                if (crop := self._crop(lane, frame, faces, number)) is not None:
                    asked.append(track)
                    crops.append(crop)
            answers = self._batcher.ask(crops)
        for track, answer in zip(asked, answers):
            track.answer(answer.female)
        latency = time.monotonic() - frame.arrived
        lane.note(frame, latency, len(faces), len(asked))
        return Result(
            camera=lane.number,
            source=shown(lane.camera.source),
            number=frame.number,
            time=frame.time,
            moment=frame.moment,
            latency=latency,
            faces=[_as_face(track, box) for track, box in zip(tracks, faces.boxes)],
            image=frame.image if self._keep_frames else None,
        )

    def _crop(self, lane: Lane, frame: Frame, faces: Faces, number: int) -> Optional[np.ndarray]:
        """A face by its landmarks, else by its box; None if neither will do."""
        cut = partial(self._batcher.classifier.crop, frame.image)
        try:
            crop, unaligned = by_landmarks_or_box(cut, faces, number)
        except ImageError as error:  # a detector's box may lie outside its frame
            lane.uncut += 1
            lane.tell_once(lane.uncut, frame, "no crop of a face", str(error))
            return None
        if unaligned:
            lane.unaligned += 1
            lane.tell_once(lane.unaligned, frame, "a face is cut by its box", unaligned)
        return crop

    def _put(self, item: Union[Result, Exception]) -> None:
        """Hand out, waiting for whoever takes; given up when closed."""
        room = BACKLOG * len(self._lanes)
        with self._changed:
            self._changed.wait_for(lambda: len(self._results) < room or self._closed)
            if not self._closed:
                self._results.append(item)
            self._tell()

    def _ready(self) -> bool:
        """Whether there is a result, or none will come any more."""
        return bool(self._results) or self._closed or not self._running

    def _take(self) -> Union[Result, Exception, None]:
        """The oldest result, or what ended a camera's thread; None at the end. Wants the lock."""
        if self._closed or not self._results:
            return None
        item = self._results.popleft()
        self._tell()
        return item

    def _tell(self) -> None:
        """Wake whoever waits for a change. Wants the lock."""
        self._changed.notify_all()
        for listener in self._listeners:
            with contextlib.suppress(RuntimeError):  # its event loop has ended
                listener()


def _close(cameras: Sequence[Camera]) -> None:
    for camera in cameras:
        camera.stop()
    for camera in cameras:
        camera.close()


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
