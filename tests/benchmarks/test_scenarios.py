from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import energy, rounds, scenarios, scenes
from benchmarks.subjects import Face, Subject, open_subject, variant
from gender_edge import zoo


class Counting(Subject):
    """A subject that notes what it is given, and takes a while."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.prepared: list[list[Face]] = []
        self.ran: list[int] = []

    def facts(self) -> dict[str, Any]:
        return {}

    def blank(self, count: int) -> np.ndarray:
        return np.zeros(count)

    def prepare(self, faces: Any) -> np.ndarray:
        self.prepared.append(list(faces))
        return np.zeros(len(faces))

    def run(self, batch: np.ndarray) -> np.ndarray:
        time.sleep(self.seconds)
        self.ran.append(len(batch))
        return batch

    def female(self, answers: Any) -> np.ndarray:
        return np.asarray(answers)


def test_clocks_include_what_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    subject = Counting()
    scenarios.work(subject, "network", 4, None)()
    assert subject.ran == [4] and not subject.prepared
    scenarios.work(subject, "crop", 3, None)()
    assert subject.ran == [4, 3] and len(subject.prepared[0]) == 3
    scenarios.work(subject, "decode", 2, None)()
    stored, decoded = subject.prepared[0][0].image, subject.prepared[1][0].image
    assert decoded.shape == stored.shape and (decoded != stored).any()  # it went through JPEG
    seen: list[np.ndarray] = []
    monkeypatch.setattr(scenarios.detectors, "detector", lambda *_, **__: seen.append)
    scenarios.work(subject, "detect", 2, None)()
    assert [frame.shape for frame in seen] == [stored.shape] and len(subject.prepared[2]) == 2


def test_faces_lie_in_the_frame() -> None:
    image = scenes.frame()
    for face in scenes.faces(image, 40):
        assert face.box is not None and face.landmarks is not None
        x, y, width, height = face.box
        assert 0 <= x <= image.shape[1] - width and 0 <= y <= image.shape[0] - height
        assert (face.landmarks > (x, y)).all() and (face.landmarks < (x + width, y + height)).all()
    assert (scenes.frame() == image).all()


def test_a_queue_that_keeps_up_is_as_late_as_one_call() -> None:
    served: list[int] = []

    def serve(count: int) -> None:
        served.append(count)
        time.sleep(0.002)

    late = scenarios.p99_of_queue(serve, streams=4, fps=10, at_once=8, seconds=0.5)
    assert sum(served) == 20 and 2 <= late < 100


def test_a_queue_that_does_not_keep_up_is_late() -> None:
    """40 frames a second at 50 ms each, one at a time: the last waits for all before it."""
    late = scenarios.p99_of_queue(lambda _: time.sleep(0.05), 4, fps=10, at_once=1, seconds=0.5)
    assert late > 300


def test_faster_subjects_serve_more_cameras(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as are answered in time, and no more; of 100 ms for any batch none is."""
    assert scenarios.cameras(Counting(0.1), "network", 20, 4, 50, 0.3)["cameras"] == 0
    for most in (1, 13, 64):
        in_time = lambda _, streams, *__, most=most: 10.0 if streams <= most else 99.0  # noqa: E731
        monkeypatch.setattr(scenarios, "p99_of_queue", in_time)
        assert scenarios.cameras(Counting(), "network", 20, 4, 50, 0.3)["cameras"] == most


def test_pace_waits_for_each_face_and_counts_the_processor() -> None:
    class Busy(Counting):
        def run(self, batch: np.ndarray) -> np.ndarray:
            end = time.process_time() + 0.005
            while time.process_time() < end:
                pass
            return super().run(batch)

    sleeper, busy = Counting(0.005), Busy()
    found = scenarios.paced(sleeper, 100, 0.2)
    assert sleeper.ran == [1] * (scenarios.WARMUP_RUNS + 20)
    assert 5 <= found["p50_ms"] <= found["p99_ms"] and found["fps"] == 100
    assert found["cores"] < scenarios.paced(busy, 100, 0.2)["cores"]
    busy.ran.clear()
    scenarios.paced(busy, 1000, 0.001)  # it cannot keep up: timed all the same
    assert len(busy.ran) == scenarios.WARMUP_RUNS + scenarios.FEWEST_RUNS


def test_peers_and_variants_answer_alike() -> None:
    """The real thing: what `prepare` and `run` say is what `Classifier.in_frame` says."""
    subject = open_subject(variant(zoo.default(), "onnxruntime", None, 8))
    faces = scenes.faces(scenes.frame(), 3)
    found = subject.female(subject.run(subject.prepare(faces)))
    direct = subject.classifier.in_frame(  # type: ignore[attr-defined]
        faces[0].image, [f.box for f in faces], [f.landmarks for f in faces]
    )
    np.testing.assert_allclose(found, [p.female for p in direct])


def test_rounds_together() -> None:
    times = [
        {"p50_ms": v, "p90_ms": v, "p99_ms": v, "faces_per_s": 1, "runs": 5} for v in (3, 1, 2)
    ]
    row = rounds.together(times)
    assert row["p50_ms"] == 2 and row["interval"]["p50_ms"] == [1, 3] and row["runs"] == 15
    variants = [{"name": "a", "engine": "b", "batches": [{"batch": 1, **row}]}, {"error": "no"}]
    assert rounds.too_wide(variants) == ["a on b, batch 1 (100 %)"]


def test_energy_is_counted_where_the_kernel_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Packages, but not the platform that holds them."""
    monkeypatch.setattr(energy, "_gpus", list)
    assert energy.Meter(tmp_path).joules() is None
    for zone, joules in (("intel-rapl:0", 5), ("intel-rapl:1", 7)):
        (tmp_path / zone).mkdir()
        (tmp_path / zone / "name").write_text("package-0\n")
        (tmp_path / zone / "energy_uj").write_text(str(joules * 1_000_000))
        (tmp_path / zone / "max_energy_range_uj").write_text("10000000")
    (tmp_path / "intel-rapl:2").mkdir()
    (tmp_path / "intel-rapl:2" / "name").write_text("psys\n")
    (tmp_path / "intel-rapl:2" / "energy_uj").write_text("1000000")
    meter = energy.Meter(tmp_path)
    (tmp_path / "intel-rapl:2" / "energy_uj").write_text("90000000")
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("8000000")
    (tmp_path / "intel-rapl:1" / "energy_uj").write_text("1000000")  # it began anew at 10 J
    assert meter.joules() == pytest.approx(3 + 4)
