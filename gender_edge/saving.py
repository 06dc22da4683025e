"""Pictures that `gender-edge watch` saves if it is told to: a video of each camera, a crop of each
decided track.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

import cv2
import numpy as np

from .errors import DataError
from .pipeline import Result, TrackedFace
from .sources import for_opencv

LEAST_RATE, MOST_RATE = 15.0, 60.0  # frames a second: what sources state is at times an average
GAP = 10.0  # s for which a recording stands still at most
CAPTION = "apparent gender, binary labels"  # the file goes where no README does


def targets(path: Path, sources: Sequence[str]) -> list[Path]:
    """Where the recording of each source goes: `path`, or of several NAME-0.mp4, NAME-1.mp4, ...

    Raises:
        DataError: one of them is there already, or is a source; its name is no text; or there is no
            such folder.
    """
    if not path.parent.is_dir():
        raise DataError(f"{path.parent}: no such folder; make it, or record to another one")
    several = len(sources) > 1
    files = [
        path.with_name(f"{path.stem}-{number}{path.suffix}") if several else path
        for number in range(len(sources))
    ]
    for file in files:
        for_opencv(str(file))
        if file.resolve() in [Path(source).resolve() for source in sources]:
            raise DataError(
                f"{file}: is a source, and recording would destroy it; choose another name"
            )
        if file.exists():
            raise DataError(f"{file}: is there already; choose another name, or remove it")
    return files


class Recorder:
    """A video of one camera with boxes and labels, for people who would rather look. Below each
    picture a line says what the labels are.

    It plays as fast as things happened: each of its frames is the last one that was there at its
    moment. Of a silence of more than ten seconds nothing is seen.

    Args:
        path: of the video, written anew.
        rate: frames a second, those of its source as far as they lie from 15 to 60; None for 15.

    Raises:
        DataError: OpenCV cannot write it (when the first frame comes).
    """

    def __init__(self, path: Path, rate: Optional[float] = None) -> None:
        self.path, self._rate = path, min(max(rate or LEAST_RATE, LEAST_RATE), MOST_RATE)
        self._writer: Optional[cv2.VideoWriter] = None
        self._size: Sequence[int] = ()
        self._image: Optional[np.ndarray] = None  # shown until the next one
        self._moment = self._due = 0.0  # of that one: in seconds, and in frames since the beginning
        self._written = 0

    def add(self, result: Result) -> None:
        """One more frame."""
        image = drawn(result)
        moment = result.time if result.moment is None else result.moment  # a file's own time
        if self._writer is None:
            self._begin(image)
        else:
            self._due += self._frames_until(moment)
            self._write(round(self._due))
        self._image, self._moment = cv2.resize(image, self._size), moment

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._write(self._written + 1)
            self._writer.release()

    def _begin(self, image: np.ndarray) -> None:
        self._size = image.shape[1::-1]  # a source may change its own
        writer = cv2.VideoWriter(
            str(self.path), cv2.VideoWriter.fourcc(*"mp4v"), self._rate, self._size
        )
        if not writer.isOpened():
            raise DataError(f"{self.path}: OpenCV cannot write it; name a file that ends in .mp4")
        self._writer = writer

    def _frames_until(self, moment: float) -> float:
        """From the last result to one of a moment; 1 if the clock was set, or much is missing."""
        seconds = moment - self._moment
        return seconds * self._rate if 0 <= seconds <= GAP else 1.0

    def _write(self, end: int) -> None:
        assert self._writer is not None
        while self._written < end:
            self._writer.write(self._image)
            self._written += 1


def drawn(result: Result) -> np.ndarray:
    """A copy of the frame with a box and a line of text a face, and the caption below it."""
    assert result.image is not None
    image = result.image.copy()
    for face in result.faces:
        x, y, width, height = (round(v) for v in face.box)
        color = (160, 160, 160) if face.label is None else (60, 180, 75)
        cv2.rectangle(image, (x, y), (x + width, y + height), color, 2)
        text = f"{face.track} {face.label or '?'} {100 * face.confidence:.0f} %"
        cv2.putText(image, text, (x, max(12, y - 4)), cv2.FONT_HERSHEY_SIMPLEX, 0.45, color, 1)
    return np.vstack([image, _caption(*image.shape[1::-1])])


def _caption(width: int, height: int) -> np.ndarray:
    """A strip as wide as a picture of this size, of an even height, as video wants it."""
    strip = np.zeros((max(16, height // 60 * 2), width, 3), np.uint8)
    (unit, _), _ = cv2.getTextSize(CAPTION, cv2.FONT_HERSHEY_SIMPLEX, 1.0, 1)
    scale = min(len(strip) / 36, 0.96 * width / unit)
    place = (round(0.02 * width), round(0.7 * len(strip)))
    cv2.putText(strip, CAPTION, place, cv2.FONT_HERSHEY_SIMPLEX, scale, (255, 255, 255), 1)
    return strip


class Crops:
    """A folder of PNG files, TIME-cameraN-trackN.png: one a decided track, of its latest decision.
    TIME is when watching began, so that nothing of an earlier time is overwritten.

    Raises:
        DataError: the folder cannot be made or written to.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._began = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"{folder}: {error}; name another folder for crops") from error

    def add(self, result: Result, face: TrackedFace) -> None:
        """The face's box, as far as it lies in the frame."""
        assert result.image is not None
        x, y, width, height = face.box
        left, top = max(0, int(x)), max(0, int(y))
        crop = result.image[top : max(top, round(y + height)), left : max(left, round(x + width))]
        if not crop.size:
            return
        name = f"{self._began}-camera{result.camera}-track{face.track}.png"
        try:
            (self.folder / name).write_bytes(cv2.imencode(".png", crop)[1].tobytes())
        except OSError as error:
            raise DataError(f"{self.folder / name}: {error}; name another folder") from error
