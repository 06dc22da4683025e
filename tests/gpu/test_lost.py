"""A kernel that goes wrong costs the process: it must be told so, and end of itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gender_edge import build_engine, zoo
from gender_edge.backends import cuda
from tests.conftest import ROOT

pytestmark = pytest.mark.gpu

PROGRAM = """
import sys, threading
from gender_edge import BackendError, Classifier
from tests.gpu.conftest import crops

class Nowhere:
    def __init__(self, shape):
        self.shape = shape

    @property
    def __cuda_array_interface__(self):
        return {"shape": self.shape, "typestr": "|u1", "data": (1 << 60, True), "version": 3}

def ask():
    for batch in (Nowhere(good.shape), good):
        try:
            classifier.predict(batch)
        except BackendError as error:
            print(error)

from gender_edge.backends import cuda
cuda.index_of = lambda address: 0  # it would refuse the address before any kernel meets it
classifier = Classifier(sys.argv[1])
good = crops(classifier, 2)
thread = threading.Thread(target=ask)
thread.start()
thread.join()
print("the thread ended")
"""


def test_a_lost_context_is_told_and_the_process_ends(device: cuda.Device, tmp_path: Path) -> None:
    engine = build_engine(zoo.default(), tmp_path / "a.engine", max_batch=2)
    command = [sys.executable, "-c", PROGRAM, str(engine)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ROOT)
    *errors, last = done.stdout.strip().splitlines()
    assert last == "the thread ended" and len(errors) == 2, done.stderr
    assert all("start it again" in error for error in errors)
    assert done.returncode >= 0, done.stderr  # not aborted
