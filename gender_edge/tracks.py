"""Faces followed from frame to frame, with labels that do not flicker.

Boxes are joined by overlap (Bochinski et al. 2017, the IOU tracker). A track's log-odds are a
running mean of its answers' log-odds; its label changes only when that mean is well on the other
side (hysteresis). A track that has seen enough and is sure is asked again only now and then.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Optional

import numpy as np

from .faces import Faces
from .samples import LABELS


@dataclass(frozen=True)
class Smoothing:
    """How answers become a track's label.

    Attributes:
        overlap: least intersection over union with a track's last box for a face to be its.
        forget: seconds without a face after which a track ends, whatever frames there were.
        memory: answers that the running mean of log-odds spans.
        enter: log-odds, either way, at which a track gets its label (1: 73 %, 3: 95 %); never less
            than the model's own threshold for that label.
        leave: log-odds on the other side at which a label is given up, for the other one if the
            model's threshold for that allows it.
        sure: log-odds beyond which a track with a label and `answers` answers is decided.
        answers: see `sure`.
        again: frames until a decided track is asked once more.
    """

    overlap: float = 0.3
    forget: float = 2.0
    memory: int = 10
    enter: float = 1.0
    leave: float = 1.0
    sure: float = 3.0
    answers: int = 5
    again: int = 30


@dataclass
class Track:
    """One face over time.

    Attributes:
        number: counts from 1, never used again.
        box: float32 (4,), x, y, width, height of the last frame that had it.
        log_odds: running mean of log(P(female) / P(male)); 0 before the first answer.
        label: "female" or "male"; None before there is reason for either.
        answers: how often the classifier was asked.
        flips: how often a label was given up.
        thresholds: P(label) below which the model gives no label: 0 always, 1 never.
        seen: when it last had a face, as `Tracker.update` counts.
    """

    number: int
    box: np.ndarray
    smoothing: Smoothing = field(repr=False)
    thresholds: Mapping[str, float] = field(default_factory=dict, repr=False)
    log_odds: float = 0.0
    label: Optional[str] = None
    answers: int = 0
    flips: int = 0
    seen: float = 0.0
    rested: int = 0

    @property
    def female(self) -> float:
        """P(female) by the running mean."""
        return 1 / (1 + math.exp(-self.log_odds))

    @property
    def sureness(self) -> float:
        """P(label) by the running mean."""
        return self.female if self.label == "female" else 1 - self.female

    @property
    def decided(self) -> bool:
        """Whether it has been asked enough, has a label, and is sure."""
        rule, sure = self.smoothing, abs(self.log_odds) >= self.smoothing.sure
        return self.answers >= rule.answers and self.label is not None and sure

    def wants_answer(self) -> bool:
        """Whether to classify it in this frame; counts the frames of a decided track."""
        self.rested += 1
        return not self.decided or self.rested >= self.smoothing.again

    def answer(self, female: float) -> None:
        """Take in P(female) of one frame."""
        rule = self.smoothing
        limited = min(max(float(female), 1e-4), 1 - 1e-4)  # a certainty would drown all others
        self.answers += 1
        self.rested = 0
        weight = 1 / min(self.answers, rule.memory)
        self.log_odds += weight * (_log_odds(limited) - self.log_odds)
        label = "female" if self.log_odds > 0 else "male"
        limit = rule.enter if self.label is None else rule.leave
        if label != self.label and abs(self.log_odds) >= limit:
            self.flips += self.label is not None
            least = _log_odds(self.thresholds.get(label, 0.5))
            self.label = label if abs(self.log_odds) >= least else None


class Tracker:
    """The tracks of one camera."""

    def __init__(
        self,
        smoothing: Optional[Smoothing] = None,
        thresholds: Optional[Mapping[str, float]] = None,
    ) -> None:
        self.smoothing = smoothing or Smoothing()
        self.thresholds = thresholds or {}
        self.tracks: list[Track] = []
        self._count = 0
        self._ended: Counter[str] = Counter()
        self._flips = 0

    def update(self, faces: Faces, moment: float) -> list[Track]:
        """Join the faces of the next frame to tracks.

        Args:
            faces: of the frame.
            moment: when it was taken, in seconds on any clock that does not go back.

        Returns:
            One track per face, in their order.
        """
        self._end([t for t in self.tracks if moment - t.seen > self.smoothing.forget])
        joined: dict[int, Track] = {}
        if self.tracks and len(faces):
            shared = overlaps(np.stack([t.box for t in self.tracks]), faces.boxes)
            while shared.size and shared.max() >= self.smoothing.overlap:
                row, column = np.unravel_index(int(shared.argmax()), shared.shape)
                joined[int(column)] = self.tracks[int(row)]
                shared[row], shared[:, column] = -1, -1
        result = []
        for number, box in enumerate(faces.boxes):
            track = joined.get(number) or self._begin(box)
            track.box, track.seen = box, moment
            result.append(track)
        return result

    def cut(self) -> None:
        """End every track: the next frame does not follow from the last, so who is there is new."""
        self._end(list(self.tracks))

    def counts(self) -> dict[str, int]:
        """Tracks so far by their last label: "female", "male", "undecided"."""
        present = Counter(track.label or "undecided" for track in self.tracks)
        return {word: self._ended[word] + present[word] for word in (*LABELS, "undecided")}

    def flips(self) -> int:
        """How often a track's label changed so far, all tracks together."""
        return self._flips + sum(track.flips for track in self.tracks)

    def _end(self, tracks: Sequence[Track]) -> None:
        for track in tracks:
            self.tracks.remove(track)
            self._ended[track.label or "undecided"] += 1
            self._flips += track.flips

    def _begin(self, box: np.ndarray) -> Track:
        self._count += 1
        track = Track(self._count, box, self.smoothing, self.thresholds)
        self.tracks.append(track)
        return track


def _log_odds(share: float) -> float:
    """log(p / (1 - p)); of 0 and 1 what that tends to."""
    return math.log(share / (1 - share)) if 0 < share < 1 else math.copysign(math.inf, share - 0.5)


def overlaps(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes (N, 4) with boxes (M, 4), x, y, width, height: (N, M)."""
    a, b = left[:, None].astype(float), right[None].astype(float)
    low = np.maximum(a[..., :2], b[..., :2])
    high = np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:])
    shared = np.clip(high - low, 0, None).prod(-1)
    union = a[..., 2:].prod(-1) + b[..., 2:].prod(-1) - shared
    return np.asarray(shared / np.maximum(union, 1e-9))
