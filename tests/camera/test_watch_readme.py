"""The README's GStreamer program, run as it stands there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gender_edge.faces import Detector
from tests.camera.test_gstreamer import PICTURE, RATE, packages
from tests.conftest import ROOT

pytestmark = pytest.mark.filterwarnings("ignore:DynamicImporter:ImportWarning")
assert packages  # a fixture that this file uses too


def test_the_appsink_program_of_the_readme(
    portrait_path: Path, tmp_path: Path, center_face: Detector
) -> None:
    programs = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (program,) = [text for text in programs if "appsink" in text]
    file = tmp_path / "program.py"
    file.write_text(program)
    source = f"{PICTURE.format(portrait_path)} ! {RATE} ! videoconvert ! appsink"
    process = subprocess.Popen(
        [sys.executable, "-u", str(file), source],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])},
    )
    try:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(12)]
        process.terminate()
        process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()  # nothing stays open, whatever failed
    assert re.fullmatch(r"frame \d+: face 1 female 0\.\d+\n", lines[-1]), lines
