from __future__ import annotations

import json
import urllib.request
from pathlib import Path

import cv2
import numpy as np
import pytest

from gender_edge import Classifier, DataError
from gender_edge.cli import main
from gender_edge.faces import Detector
from gender_edge.pipeline import Pipeline
from gender_edge.watch import Metrics
from tests.camera.conftest import Scripted


def test_command_line(
    portrait_clip: Path, tmp_path: Path, center_face: Detector, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line a face and frame on stdout, a summary on stderr, and a video to look at."""
    video = tmp_path / "seen.mp4"
    assert main(["watch", str(portrait_clip), "--json", "--record", str(video)]) == 0
    out, err = capsys.readouterr()
    rows = [json.loads(line) for line in out.splitlines()]
    assert len(rows) >= 50 and {row["track"] for row in rows[20:]} == {1, 2}
    assert rows[-1]["label"] == "female" and len(rows[-1]["box"]) == 4
    assert "female 2, male 0" in err and "saving pictures" in err and "not identity" in err
    capture = cv2.VideoCapture(str(video))
    frames = 0
    while (read := capture.read())[0]:
        frames += 1
    assert frames == 30 and read[1] is None


def test_what_is_missing_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    detector = ["--detector", str(tmp_path / "yunet.onnx")]
    assert main(["watch", str(tmp_path / "none.mp4"), *detector]) == 2
    assert "yunet.onnx: no such file" in capsys.readouterr().err


def test_metrics_are_prometheus(portrait_clip: Path, classifier: Classifier) -> None:
    with Pipeline([str(portrait_clip)], classifier, Scripted(2)) as pipeline:
        list(pipeline)
        metrics = Metrics(pipeline, 0)
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{metrics.port}/metrics") as answer:
                text = answer.read().decode()
            for port in (metrics.port, 70000):
                with pytest.raises(DataError, match="take another port"):
                    Metrics(pipeline, port)
        finally:
            metrics.close()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    values = {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines}
    assert values[f'gender_edge_frames_total{{camera="0",source="{portrait_clip}"}}'] == 30
    place = f'camera="0",source="{portrait_clip}"'
    assert values[f'gender_edge_tracks_total{{{place},label="female"}}'] == 2
    assert all(np.isfinite(v) for v in values.values())
