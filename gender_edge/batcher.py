"""Crops of many threads, classified in shared batches."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager

import numpy as np

from .arguments import counted
from .classifier import Classifier
from .delays import Delays
from .errors import ArgumentError, BackendError, ImageError

LONGEST_DELAY = 3600.0  # s

_Question = tuple[np.ndarray, "Future[np.ndarray]", float]  # crops, their answers, when asked


class Batcher:
    """Gathers what arrives within a delay, classifies it at once, hands each its answers.

    A batch runs before the delay is over if it is full, or if every thread that is about to ask
    has asked.

    Example:
        >>> batcher = Batcher(classifier)  # one for all threads of a server
        >>> with batcher.caller():  # in each: others wait for it; one that is alone waits for none
        ...     (female,) = batcher.ask([classifier.crop("face.jpg")])

    Args:
        classifier: what answers.
        max_batch: faces at once.
        max_delay: seconds that the first crop of a batch waits for others at most.

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
        """Announce a question of the present thread, which others may then wait for."""
        self._register(1)
        try:
            yield
        finally:
            self._register(-1)

    def _register(self, change: int) -> None:
        with self._changed:
            self._callers += change
            self._changed.notify_all()

    def ask(self, crops: Sequence[np.ndarray]) -> np.ndarray:
        """P(female) of crops as `Classifier.crop` makes them: float32 (N,). Blocks until known.

        Raises:
            ImageError: of another size or type; who asks for others in the same batch is spared.
            BackendError: it was closed, or the engine failed.
        """
        if not len(crops):
            return np.empty(0, np.float32)
        side = self.classifier.spec.input_size
        for crop in crops:
            shape, kind = getattr(crop, "shape", type(crop).__name__), getattr(crop, "dtype", "")
            if shape != (side, side, 3) or kind != np.uint8:
                raise ImageError(
                    f"a crop of {shape} {kind}: expected ({side}, {side}, 3) uint8, as "
                    "`Classifier.crop` makes it"
                )
        future: Future[np.ndarray] = Future()
        with self._changed:
            if self._closed:
                raise BackendError("this batcher was closed; open another")
            self._waiting.append((np.stack(crops), future, time.monotonic()))
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
        while self._answer():  # a call a batch: no local name keeps its crops until the next one
            pass

    def _answer(self) -> bool:
        """Run the next batch; False once closed."""
        batch = self._gather()
        try:
            if batch:
                self._classify(batch)
        except Exception as error:  # whoever asked gets it, and the thread lives on
            for _, future, _ in batch:
                future.set_exception(error)
        return bool(batch)

    def _classify(self, batch: Sequence[_Question]) -> None:
        crops = np.concatenate([own for own, _, _ in batch])
        answers = self.classifier.probabilities(crops)[:, self._female()]
        self.batches, self.faces = self.batches + 1, self.faces + len(crops)
        start = 0
        for own, future, asked in batch:
            self.waits.add(time.monotonic() - asked)
            future.set_result(answers[start : start + len(own)])
            start += len(own)

    def _female(self) -> int:
        return self.classifier.spec.labels.index("female")

    def _gather(self) -> list[_Question]:
        """What the next batch holds; nothing once closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if self._waiting:
                until = self._waiting[0][2] + self.max_delay
                self._changed.wait_for(self._ready, max(0.0, until - time.monotonic()))
            batch: list[_Question] = []
            while self._waiting and (not batch or self._fits(batch)):
                batch.append(self._waiting.popleft())
            return batch

    def _ready(self) -> bool:
        crops = sum(len(own) for own, _, _ in self._waiting)
        everybody = 0 < self._callers <= len(self._waiting)
        return self._closed or everybody or crops >= self.max_batch

    def _fits(self, batch: list[_Question]) -> bool:
        crops = sum(len(own) for own, _, _ in batch) + len(self._waiting[0][0])
        return crops <= self.max_batch
