"""One subject in a process of its own: opened once, then timed as often as it is asked.

`run.py` writes a request a line to stdin and reads an answer a line from stdout; both are JSON.
The first answer is what opening took and what the subject says of itself.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    pass

if __package__ in (None, ""):  # run as a file: its own tree, wherever it is called from
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from benchmarks import memory


def main() -> int:
    """Open the subject that the command line describes and serve requests until stdin ends."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print is no answer
    try:
        subject, opened = _open(json.loads(sys.argv[1]))
        _say(answers, opened)
    except Exception as error:  # whatever a peer's libraries raise becomes its row's reason
        _say(answers, {"error": _reason(error)})
        return 1
    for line in sys.stdin:
        request = json.loads(line)
        try:
            _say(answers, REQUESTS[request.pop("do")](subject, **request))
        except Exception as error:
            _say(answers, {"error": _reason(error)})
    return 0


def _reason(error: Exception) -> str:
    from gender_edge import GenderEdgeError

    own = isinstance(error, (GenderEdgeError, ImportError))
    return str(error) if own else f"{type(error).__name__}: {error}"


def _say(answers: TextIO, answer: dict[str, Any]) -> None:
    print(json.dumps(answer), file=answers, flush=True)


def _open(description: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    # Nothing before this may import NumPy: it is part of what importing the package costs.
    started, bare = time.perf_counter(), memory.resident_mb()[0]
    import gender_edge  # noqa: F401  what a user's program pays first

    imported, after_import = time.perf_counter(), memory.resident_mb()[0]
    from benchmarks.subjects import open_subject

    prepared = time.perf_counter()
    subject = open_subject(description)
    loaded = time.perf_counter()
    _same_threads(description["open"].get("threads"))
    return subject, {
        **subject.facts(),
        "import_s": imported - started,
        "load_s": loaded - prepared,
        "resident_mb": {"python": bare, "import": after_import, "load": memory.resident_mb()[0]},
    }


def _same_threads(threads: int | None) -> None:
    """Every subject decodes, crops and detects with as many threads, whatever opening it chose."""
    import cv2

    cv2.setNumThreads(threads or cv2.getNumberOfCPUs())


def _remember(subject: Any, batch: int) -> dict[str, Any]:
    """Peak memory of a process that did nothing but open the subject and run this batch."""
    ready = subject.blank(batch)
    for _ in range(3):
        subject.run(ready)
    return {"peak": memory.resident_mb()[1], "device_mb": memory.device_mb()}


def _time(
    subject: Any,
    batch: int,
    seconds: float,
    clock: str,
    detector: str | None,
    threads: int | None = None,
) -> dict[str, float | None]:
    from benchmarks import scenarios

    call = scenarios.work(subject, clock, batch, detector, threads)
    return scenarios.timed(call, batch, seconds)


def _paced(subject: Any, **request: Any) -> dict[str, float]:
    from benchmarks import scenarios

    return scenarios.paced(subject, **request)


def _cameras(subject: Any, **request: Any) -> dict[str, Any]:
    from benchmarks import scenarios

    return scenarios.cameras(subject, **request)


def _judge(subject: Any, lists: Sequence[str], split: str | None) -> dict[str, Any]:
    """Accuracy on labelled sets: figures of `evaluation.report` by set."""
    from benchmarks.subjects import trimmed
    from gender_edge import evaluation
    from gender_edge.labelled import read_labelled

    figures = {}
    for each in lists:
        outcome = _outcome(subject, read_labelled(each, split))
        stem = Path(each).stem
        # Lists of the same name in several folders (annotated.csv) go by their folders'.
        alone = [Path(other).stem for other in lists].count(stem) == 1
        name = stem if alone else Path(each).parent.name
        name = each if name in figures else name
        figures[name] = trimmed(evaluation.report(outcome))
    return {"sets": figures}


def _outcome(subject: Any, samples: Sequence[Any]) -> Any:
    import numpy as np

    from benchmarks.subjects import Face
    from gender_edge import evaluation, images

    def cut(sample: Any) -> Any:
        pixels = images.decode(sample.read(), sample.name)
        return subject.prepare([Face(pixels, sample.box, sample.landmark_array())])

    def answer(inputs: list[Any]) -> Any:
        return list(subject.female(subject.run(np.concatenate(inputs))))

    kept, female, failures = evaluation.answered(samples, cut, answer, 32)
    return evaluation.Outcome(kept, np.array(female), np.ones(len(kept), bool), failures)


REQUESTS: dict[str, Callable[..., dict[str, Any]]] = {
    "remember": _remember,
    "time": _time,
    "paced": _paced,
    "cameras": _cameras,
    "judge": _judge,
}


if __name__ == "__main__":
    raise SystemExit(main())
