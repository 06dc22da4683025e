from __future__ import annotations

import json
import math
import re
import threading
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Optional

import cv2
import numpy as np
import pytest

from gender_edge import Classifier, DataError, zoo
from gender_edge.cli import main
from gender_edge.faces import Detector
from gender_edge.metrics import Metrics, prometheus
from gender_edge.pipeline import Pipeline, Result, TrackedFace
from gender_edge.saving import GAP, Recorder, drawn
from gender_edge.watch import KEPT, Tally, lines, table
from tests.camera.conftest import Scripted


def seen(path: Path) -> tuple[float, list[np.ndarray]]:
    """Frames a second of a video, and its frames."""
    capture, found = cv2.VideoCapture(str(path)), []
    while (read := capture.read())[0]:
        found.append(read[1])
    return capture.get(cv2.CAP_PROP_FPS), found


def result(
    faces: Sequence[TrackedFace] = (), time: float = 0.0, value: int = 0, camera: int = 0
) -> Result:
    """Of a frame with one value in every pixel."""
    image = np.full((48, 64, 3), value, np.uint8)
    return Result(camera, "a", 0, time, None, 0.0, list(faces), image)


def face(label: Optional[str], decided: bool = False, track: int = 1) -> TrackedFace:
    return TrackedFace(track, (0, 0, 9, 9), label, 0.5, 0.5, decided)


def test_a_line_a_decision(
    portrait_clip: Path,
    sure_model: Path,
    center_face: Detector,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What the issue of a camera is: who came, once each; and what found and classified them."""
    assert main(["watch", str(portrait_clip), "--json", "--model", str(sure_model)]) == 0
    out, err = capsys.readouterr()
    rows = [json.loads(line) for line in out.splitlines()]
    assert sorted(row["track"] for row in rows) == [1, 2]
    assert all(row["label"] == "female" and row["decided"] for row in rows)
    wanted = {"camera", "track", "box", "label", "female", "confidence", "time", "decided"}
    assert all(wanted <= set(row) for row in rows)
    assert "CenterFace" in err and zoo.default() in err and "not identity" in err
    assert "female 2, male 0, undecided 0, flips 0" in err and "PICTURES" not in err


def test_a_line_a_face_and_pictures_where_they_are_asked_for(
    portrait_clip: Path,
    sure_model: Path,
    tmp_path: Path,
    center_face: Detector,
    capsys: pytest.CaptureFixture[str],
) -> None:
    video, crops = tmp_path / "seen.mp4", tmp_path / "crops"
    argv = ["watch", str(portrait_clip), "--every-frame", "--record", str(video)]
    argv += ["--model", str(sure_model)]
    assert main([*argv, "--save-crops", str(crops)]) == 0
    out, err = capsys.readouterr()
    rows = [json.loads(line) for line in out.splitlines()]
    assert len(rows) >= 50 and {row["track"] for row in rows[20:]} == {1, 2}
    assert all(row["moment"] == round(row["frame"] / 15, 3) for row in rows)  # of the video
    assert rows[-1]["frame"] == 29
    assert not rows[0]["decided"] and rows[-1]["decided"]
    assert f"SAVES PICTURES: {portrait_clip} to {video}" in err
    assert f"SAVES PICTURES: one crop per decided track to {crops}" in err
    fps, frames = seen(video)
    assert fps == 15 and len(frames) == 30
    names = [re.sub(r"^\d+T\d+Z-", "", path.name) for path in sorted(crops.iterdir())]
    assert names == ["camera0-track1.png", "camera0-track2.png"]
    for path in crops.iterdir():  # the face, which fills its crop
        (found,) = center_face(cv2.copyMakeBorder(cv2.imread(str(path)), *[60] * 4, 0)).boxes
        assert 0.5 < found[2] * found[3] / cv2.imread(str(path))[..., 0].size < 1.5


def test_files_are_recorded_at_their_own_speed_each_of_several(
    clip: Callable[..., Path], tmp_path: Path, center_face: Detector
) -> None:
    paths = [tmp_path / name for name in ("a.mp4", "b.mp4")]
    for path, count in zip(paths, (4, 7)):
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 20, (64, 48))
        for _ in range(count):
            writer.write(np.zeros((48, 64, 3), np.uint8))
        writer.release()
    target = tmp_path / "seen.mp4"
    assert main(["watch", *map(str, paths), "--record", str(target)]) == 0
    for number, count in enumerate((4, 7)):
        fps, frames = seen(tmp_path / f"seen-{number}.mp4")
        assert (fps, len(frames)) == (20, count)
    assert not target.exists()


def test_a_live_recording_takes_as_long_as_it_took(tmp_path: Path) -> None:
    """Frames that came late are made up for, those that came too fast are left out."""
    recorder = Recorder(tmp_path / "a.mp4")
    for time, value in ((50, 0), (50.01, 30), (50.02, 60), (51, 90), (53, 250), (54, 0)):
        recorder.add(result(time=time, value=value))
    recorder.close()
    fps, frames = seen(recorder.path)
    assert fps == 15 and len(frames) == 15 * 4 + 1
    for second, value in ((0.5, 60), (1.5, 90), (2.8, 90), (3.2, 250), (4, 0)):
        assert abs(frames[round(15 * second)][:48].mean() - value) < 8
    recorder = Recorder(tmp_path / "b.mp4")
    for time in (50, 51, 51 + GAP + 1, 20, 21):  # away for long; a clock set back
        recorder.add(result(time=time))
    recorder.close()
    assert len(seen(recorder.path)[1]) == 15 + 1 + 1 + 15 + 1
    with pytest.raises(DataError, match=r"ends in \.mp4"):
        Recorder(tmp_path / "none" / "a.mp4").add(result())


def test_a_file_of_uneven_rate_is_recorded_at_its_moments(tmp_path: Path) -> None:
    """Whatever it takes to classify them."""
    recorder = Recorder(tmp_path / "a.mp4", 20)
    for moment, value in ((0, 0), (0.1, 90), (1.0, 250), (1.02, 0), (2.0, 0)):
        recorder.add(replace(result(time=7 * moment, value=value), moment=moment))
    recorder.close()
    fps, frames = seen(recorder.path)
    assert fps == 20 and len(frames) == 41
    for moment, value in ((0, 0), (0.1, 90), (0.95, 90), (1.05, 0)):
        assert abs(frames[round(20 * moment)][:48].mean() - value) < 8


@pytest.mark.parametrize(("stated", "rate"), [(None, 15), (5.9, 15), (25, 25), (1000, 60)])
def test_rates_that_files_state_are_not_all_believed(
    tmp_path: Path, stated: Optional[float], rate: float
) -> None:
    """Of an uneven one it is the average, and browsers' recordings say a thousand."""
    recorder = Recorder(tmp_path / "a.mp4", stated)
    for number in range(3):
        recorder.add(replace(result(), moment=number / 10))
    recorder.close()
    fps, frames = seen(recorder.path)
    assert fps == rate and len(frames) == round(0.2 * rate) + 1


@pytest.mark.parametrize("size", [(640, 480), (1920, 1080), (480, 640), (160, 120)])
def test_a_recording_says_what_its_labels_are(size: tuple[int, int]) -> None:
    """Below the picture, where no face can be, as large as there is room."""
    width, height = size
    image = np.full((height, width, 3), 200, np.uint8)
    video = drawn(replace(result(), image=image))
    assert video.shape[1] == width and (len(video) - height) % 2 == 0
    np.testing.assert_array_equal(video[:height], image)
    rows, columns = np.nonzero(video[height:, :, 0] > 127)
    assert rows.min() > 0 and rows.max() < len(video) - height - 1  # all of it
    assert columns.min() > 0 and 0.2 * width < columns.max() < width - 1


def test_the_place_in_a_file_is_told_and_a_live_camera_has_none() -> None:
    recorded = replace(result(time=1.7e9), moment=12.34567)
    (line,) = map(json.loads, lines(recorded, [face("male")]))
    assert (line["moment"], line["time"]) == (12.346, 1.7e9)
    (line,) = map(json.loads, lines(replace(recorded, moment=None), [face("male")]))
    assert line["moment"] is None


def test_a_recording_without_a_folder_is_refused_at_once(
    portrait_clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video = tmp_path / "none" / "a.mp4"
    assert main(["watch", str(portrait_clip), "--record", str(video)]) == 2
    err = capsys.readouterr().err
    assert "none: no such folder" in err and "Classifier" not in err


def test_recording_overwrites_nothing(
    portrait_clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, there = tmp_path / "source.mp4", tmp_path / "there-1.mp4"
    for path in (source, there):
        path.write_bytes(portrait_clip.read_bytes())
    before = source.read_bytes()
    assert main(["watch", str(source), "--record", str(tmp_path / "." / "source.mp4")]) == 2
    assert "is a source" in capsys.readouterr().err
    assert main(["watch", str(source), "--record", str(there)]) == 2
    assert "choose another name, or remove it" in capsys.readouterr().err
    several = ["watch", str(source), str(source), "--record", str(tmp_path / "there.mp4")]
    assert main(several) == 2
    assert "there-1.mp4: is there already" in capsys.readouterr().err
    assert source.read_bytes() == there.read_bytes() == before
    assert main(["watch", str(source), "--save-crops", str(source)]) == 2
    assert "another folder" in capsys.readouterr().err


def test_what_is_missing_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    detector = ["--detector", str(tmp_path / "yunet.onnx")]
    assert main(["watch", str(tmp_path / "none.mp4"), *detector]) == 2
    assert "yunet.onnx: no such file" in capsys.readouterr().err


def test_decisions_and_label_changes_are_counted(
    portrait_clip: Path, classifier: Classifier
) -> None:
    """A decision is told once, and every time that it changes; counts of label changes grow."""
    with Pipeline([str(portrait_clip)], classifier, Scripted(0)) as pipeline:
        tally = Tally(pipeline)
        steps = [(None, False), ("male", False), ("male", True), ("male", True), ("male", False)]
        steps += [("female", False), ("female", True), (None, False), ("female", False)]
        told = [bool(tally.add(result([face(*step)]))) for step in steps]
        assert told == [False, False, True, False, False, True, False, True, True]
        (stats,) = tally.stats()
        assert stats["tracks"] == {"female": 1, "male": 0, "undecided": 0} and stats["flips"] == 2
        for track in range(2, KEPT + 100):  # a camera that runs for years keeps no more of them
            tally.add(result([face("male", track=track)]))
        (stats,) = tally.stats()
        assert stats["tracks"] == {"female": 1, "male": KEPT + 98, "undecided": 0}
        assert stats["flips"] == 2 and len(tally._seen[0]) == KEPT


def test_counters_never_go_back_while_tracks_end(
    portrait_clip: Path, classifier: Classifier
) -> None:
    """Another thread reads all the time, as Prometheus may."""
    with Pipeline([str(portrait_clip)], classifier, Scripted(0)) as pipeline:
        tally, read, over = Tally(pipeline), [], threading.Event()

        def scrape() -> None:
            while not over.is_set():
                (own,) = tally.stats()
                read.append((own["flips"], sum(own["tracks"].values())))

        thread = threading.Thread(target=scrape)
        thread.start()
        for track in range(2000):
            for label in ("male", "female"):
                tally.add(result([face(label, track=track)]))
        over.set()
        thread.join()
        assert read == sorted(read, key=lambda pair: pair[0]) and len(set(read)) > 1
        assert [total for _, total in read] == sorted(total for _, total in read)
        assert tally.stats()[0]["flips"] == 2000


def test_metrics_are_prometheus(portrait_clip: Path, classifier: Classifier) -> None:
    with Pipeline([str(portrait_clip)], classifier, Scripted(2)) as pipeline:
        tally = Tally(pipeline)
        for own in pipeline:
            tally.add(own)
        metrics = Metrics(tally.stats, 0)
        try:
            assert metrics.address == metrics._server.socket.getsockname()
            assert metrics.address[0] == "127.0.0.1"  # and nobody else's machine gets an answer
            assert metrics.url == f"http://127.0.0.1:{metrics.address[1]}/metrics"
            with urllib.request.urlopen(metrics.url) as answer:
                text = answer.read().decode()
            for port in (metrics.address[1], 70000):
                with pytest.raises(DataError, match="name another HOST:PORT"):
                    Metrics(tally.stats, port)
        finally:
            metrics.close()
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    assert all((kind == "counter") == name.endswith("_total") for name, kind in kinds.items())
    helps = dict(re.findall(r"^# HELP (\S+) (.+)\n# TYPE \1 ", text, re.MULTILINE))
    assert set(helps) == set(kinds) and text.count("# HELP ") == len(helps)
    assert "apparent gender, binary labels" in helps["gender_edge_tracks"]
    assert "apparent gender, binary labels" in helps["gender_edge_flips_total"]
    samples = [line for line in text.splitlines() if not line.startswith("#")]
    assert {line.partition("{")[0] for line in samples} == set(kinds)
    assert f'gender_edge_unaligned_total{{camera="0",source="{portrait_clip}"}} 0' in samples
    values = {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in samples}
    assert values[f'gender_edge_frames_total{{camera="0",source="{portrait_clip}"}}'] == 30
    place = f'camera="0",source="{portrait_clip}"'
    assert values[f'gender_edge_tracks{{{place},label="female"}}'] == 2
    assert all(math.isfinite(value) for value in values.values())


@pytest.mark.parametrize(
    ("text", "bound"),
    [("0", "127.0.0.1"), (":0", "127.0.0.1"), ("0.0.0.0:0", "0.0.0.0"), ("[::1]:0", "[::1]")],
)
def test_metrics_listen_where_they_are_told(
    text: str,
    bound: str,
    clip: Callable[..., Path],
    center_face: Detector,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = clip("empty", [], 2)
    status = main(["watch", str(path), "--metrics", text])
    err = capsys.readouterr().err
    if "::1" in text and status == 2 and "::1" in err:
        pytest.skip("this machine has no IPv6")
    assert status == 0 and f"metrics: http://{bound}:" in err
    with pytest.raises(SystemExit):
        main(["watch", str(path), "--metrics", "localhost"])


def test_a_table_tells_reconnects_and_label_changes(
    portrait_clip: Path, classifier: Classifier
) -> None:
    with Pipeline([str(portrait_clip)], classifier, Scripted(0)) as pipeline:
        (stats,) = Tally(pipeline).stats()
    (row,) = table([{**stats, "reconnects": 7, "flips": 9}])
    assert row[4] == "7" and row[-1] == "9"
    assert 'gender_edge_reconnects_total{camera="0",source="a\\"b"} 7' in prometheus(
        [{**stats, "reconnects": 7, "source": 'a"b'}]
    )
