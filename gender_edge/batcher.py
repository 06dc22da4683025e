"""Crops of many threads, classified in shared batches."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from .arguments import counted
from .classifier import Classifier, Prediction
from .delays import Delays
from .errors import ArgumentError, BackendError, ImageError

LONGEST_DELAY = 3600.0  # s


class _Question(NamedTuple):
    """Crops, uint8 (N, S, S, 3), their answers to be, and when they were asked about."""

    crops: np.ndarray
    answers: Future[list[Prediction]]
    asked: float  # as `time.monotonic` counts


class Batcher:
    """Runs together what arrived while the last batch ran, and hands each thread its answers.

    Questions that threads announce with `caller` are waited for too, unless the batch is full; in
    one batcher all announce theirs, or none: who does not is counted as if it had.

    Example:
        >>> batcher = Batcher(classifier)  # one for all threads of a server
        >>> (prediction,) = batcher.ask([classifier.crop("face.jpg")])  # in each of them

    Args:
        classifier: what answers.
        max_batch: faces at once.
        max_delay: seconds that a batch waits for announced questions at most.

    Raises:
        ArgumentError: `max_batch` is no whole number from 1, or `max_delay` below 0 or more than an
            hour.

    Attributes:
        batches, faces: how much was run so far.
        waits: from question to answer, of all questions.
    """

    def __init__(
        self, classifier: Classifier, *, max_batch: int = 64, max_delay: float = 0.02
    ) -> None:
        self.classifier, self.max_batch = classifier, counted("max_batch", max_batch)
        if not 0 <= max_delay <= LONGEST_DELAY:
            raise ArgumentError(
                f"max_delay={max_delay}: expected seconds from 0 to {LONGEST_DELAY:.0f}"
            )
        self.max_delay = max_delay
        self.batches = self.faces = 0
        self.waits = Delays()
        self._waiting: deque[_Question] = deque()
        self._callers = 0
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="batcher", daemon=True)
        self._thread.start()

    @contextmanager
    def caller(self) -> Iterator[None]:
        """Announce a question of the present thread: batches wait for it, at most `max_delay`.

        For threads that work on their crops until then, each on its own, as cameras do.
        """
        self._register(1)
        try:
            yield
        finally:
            self._register(-1)

    def _register(self, change: int) -> None:
        with self._changed:
            self._callers += change
            self._changed.notify_all()

    def ask(self, crops: Sequence[np.ndarray]) -> list[Prediction]:
        """One `Prediction` per crop, as `Classifier.crop` makes them. Blocks until they are known.

        Raises:
            ImageError: of another size or type; who asks for others in the same batch is spared.
            BackendError: it was closed, or the engine failed.
        """
        if not len(crops):
            return []
        side = self.classifier.spec.input_size
        for crop in crops:
            shape, kind = getattr(crop, "shape", type(crop).__name__), getattr(crop, "dtype", "")
            if shape != (side, side, 3) or kind != np.uint8:
                raise ImageError(
                    f"a crop of {shape} {kind}: expected ({side}, {side}, 3) uint8, as "
                    "`Classifier.crop` makes it"
                )
        future: Future[list[Prediction]] = Future()
        with self._changed:
            if self._closed:
                raise BackendError("this batcher was closed; open another")
            self._waiting.append(_Question(np.stack(crops), future, time.monotonic()))
            self._changed.notify_all()
        return future.result()

    def close(self) -> None:
        """Answer what waits and stop."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def __enter__(self) -> Batcher:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        while self._answer():  # one call per batch, so that no name keeps its crops
            pass

    def _answer(self) -> bool:
        """Run the next batch; False once closed."""
        batch = self._gather()
        try:
            if batch:
                self._classify(batch)
        except Exception as error:  # whoever asked gets it, and the thread lives on
            for question in batch:
                question.answers.set_exception(error)
        return bool(batch)

    def _classify(self, batch: Sequence[_Question]) -> None:
        crops = np.concatenate([own.crops for own in batch])
        answers = self.classifier.predict(crops)
        self.batches, self.faces = self.batches + 1, self.faces + len(crops)
        start = 0
        for own in batch:
            self.waits.add(time.monotonic() - own.asked)
            own.answers.set_result(answers[start : start + len(own.crops)])
            start += len(own.crops)

    def _gather(self) -> list[_Question]:
        """What the next batch holds; nothing once closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if self._waiting:
                until = self._waiting[0].asked + self.max_delay
                self._changed.wait_for(self._ready, max(0.0, until - time.monotonic()))
            batch: list[_Question] = []
            while self._waiting and (not batch or self._fits(batch)):
                batch.append(self._waiting.popleft())
            return batch

    def _ready(self) -> bool:
        crops = sum(len(own.crops) for own in self._waiting)
        everybody = self._callers <= len(self._waiting)
        return self._closed or everybody or crops >= self.max_batch

    def _fits(self, batch: list[_Question]) -> bool:
        crops = sum(len(own.crops) for own in batch) + len(self._waiting[0].crops)
        return crops <= self.max_batch
