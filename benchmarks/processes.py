"""The other end of `worker.py`: a subject's process as an object."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LONGEST = 1800.0  # s for an answer: slow peers take minutes for a labelled set, none this long


class SubjectError(Exception):
    """A subject could not be opened or measured; the text says why."""


class Process:
    """A subject opened in a process of its own, which imports the same tree as this one.

    Attributes:
        opened: what it said when it was there; see `worker.py`.

    Raises:
        SubjectError: it could not be opened.
    """

    def __init__(self, description: dict[str, Any]) -> None:
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  closed in close()
        self._process = subprocess.Popen(
            [sys.executable, str(ROOT / "benchmarks" / "worker.py"), json.dumps(description)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        try:
            self.opened = self._answer()
        except SubjectError:
            self.close()
            raise

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """Send a request and wait for its answer.

        Raises:
            SubjectError: it failed, or the process is gone.
        """
        assert self._process.stdin is not None
        with suppress(OSError):  # it is gone; what it said last tells why
            self._process.stdin.write(json.dumps({"do": do, **request}) + "\n")
            self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        alarm = threading.Timer(LONGEST, self._process.kill)
        alarm.start()
        line = self._process.stdout.readline()
        late = not alarm.is_alive()
        alarm.cancel()
        if late and not line:
            raise SubjectError(f"no answer within {LONGEST:g} s")
        answer: dict[str, Any] = json.loads(line) if line else {"error": self._last_words()}
        if "error" in answer:
            raise SubjectError(answer["error"])
        return answer

    def _last_words(self) -> str:
        status = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().strip().splitlines()
        return f"exit status {status}" + (f": {lines[-1]}" if lines else "")

    def close(self) -> None:
        """End the process."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with suppress(OSError):  # it is gone, and what was still to be written with it
                    stream.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
