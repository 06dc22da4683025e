"""One subject in a process of its own: opened once, then timed as often as it is asked.

`run.py` writes a request a line to stdin and reads an answer a line from stdout; both are JSON.
The first answer is what opening took and what the subject says of itself.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any, TextIO

if __package__ in (None, ""):  # run as a file: its own tree, wherever it is called from
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from benchmarks import memory

# By what is asked: the module of `benchmarks` and its function, which takes the subject first.
# Imported when asked for: what opening a subject takes, in time and memory, has none of it.
REQUESTS = {
    "remember": ("memory", "of_batch"),
    "time": ("scenarios", "timed"),
    "paced": ("scenarios", "paced"),
    "cameras": ("scenarios", "cameras"),
    "judge": ("judging", "judge"),
}


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
            module, function = REQUESTS[request.pop("do")]
            answer = getattr(importlib.import_module(f"benchmarks.{module}"), function)
            _say(answers, answer(subject, **request))
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


if __name__ == "__main__":
    raise SystemExit(main())
