from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gender_edge import BackendError, Classifier, images
from gender_edge.batcher import Batcher
from gender_edge.camera import Camera
from gender_edge.faces import Detector, Faces
from gender_edge.pipeline import Pipeline, Result
from gender_edge.tracks import Smoothing
from tests.camera.conftest import RtspServer, Scripted
from tests.conftest import labelled

EVERY_FRAME = Smoothing(sure=1e9)  # no track ever rests


def _crops(classifier: Classifier, seed: int, count: int) -> list[np.ndarray]:
    side = classifier.spec.input_size
    return list(np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), np.uint8))


def test_batches_are_shared_and_answers_find_their_way(classifier: Classifier) -> None:
    batcher = Batcher(classifier, max_batch=64, max_delay=5.0)
    answers: dict[int, np.ndarray] = {}
    barrier = threading.Barrier(6)

    def ask(number: int) -> None:
        with batcher.caller():
            barrier.wait()
            answers[number] = batcher.ask(_crops(classifier, number, number))

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(1, 7)]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.monotonic() - started < 4  # all waited for it: the delay is not sat out
    assert batcher.batches == 1 and batcher.faces == 21
    for number, own in answers.items():
        expected = [
            p.female for p in classifier.predict(np.stack(_crops(classifier, number, number)))
        ]
        np.testing.assert_allclose(own, expected, atol=2e-3)
    batcher.close()
    with pytest.raises(BackendError, match="closed"):
        batcher.ask(_crops(classifier, 0, 1))


def test_a_batch_has_its_limits(classifier: Classifier) -> None:
    """Full batches run at once; a lonely question waits for the delay and no longer."""
    batcher = Batcher(classifier, max_batch=4, max_delay=0.05)
    with batcher.caller(), batcher.caller():  # the second never asks
        started = time.monotonic()
        assert len(batcher.ask(_crops(classifier, 1, 2))) == 2
        assert 0.04 < time.monotonic() - started < 2
        batcher.max_delay = 5.0
        started = time.monotonic()
        assert len(batcher.ask(_crops(classifier, 1, 9))) == 9  # one question stays whole
        assert time.monotonic() - started < 2
        assert len(batcher.ask([])) == 0
    batcher.close()


def test_crops_that_do_not_fit_cost_their_batch_and_no_more(classifier: Classifier) -> None:
    """Two callers whose crops cannot be one batch: both are told, and nobody waits for ever."""
    batcher, told = Batcher(classifier, max_delay=0.5), []

    def ask(crops: list[np.ndarray]) -> None:
        try:
            batcher.ask(crops)
        except Exception as error:
            told.append(error)

    odd = [np.zeros((3, 3, 3), np.uint8)]
    threads = [threading.Thread(target=ask, args=(c,)) for c in (odd, _crops(classifier, 0, 1))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert told and len(batcher.ask(_crops(classifier, 0, 1))) == 1
    batcher.close()


def test_an_engine_that_fails_is_told_and_survives(classifier: Classifier) -> None:
    batcher = Batcher(classifier)
    with pytest.raises(Exception, match="expected uint8"):
        batcher.ask([np.zeros((3, 3, 3), np.uint8)])
    assert len(batcher.ask(_crops(classifier, 0, 1))) == 1
    batcher.close()


def test_real_faces_are_found_and_followed(
    portrait_clip: Path, any_detector: Detector, classifier: Classifier
) -> None:
    with Pipeline([str(portrait_clip)], classifier, any_detector) as pipeline:
        results = list(pipeline)
        (stats,) = pipeline.stats()
    assert [r.number for r in results] == list(range(30))
    assert all(r.image is None for r in results)  # no picture leaves unless it is asked for
    assert {f.track for r in results[5:] for f in r.faces} == {1, 2}
    assert all(f.label == "female" for r in results[10:] for f in r.faces)
    assert stats["frames"] == 30 and stats["tracks"] == {"female": 2, "male": 0, "undecided": 0}
    assert stats["answers"] < stats["faces"]  # who is sure is not asked in every frame


def test_eight_cameras_in_order(
    clip: Callable[..., Path], head: np.ndarray, classifier: Classifier
) -> None:
    """Each camera's results come in its own order, and crops of several share batches."""
    path = clip("eight", [head], 20)
    cameras = [str(path)] * 8
    with Pipeline(
        cameras,
        classifier,
        lambda frame: Faces(np.float32([[40, 40, 90, 90]]), None, np.ones(1)),
        smoothing=EVERY_FRAME,
        keep_frames=True,
    ) as pipeline:
        seen: dict[int, list[int]] = {n: [] for n in range(8)}
        for result in pipeline:
            assert result.image is not None and result.latency > 0
            seen[result.camera].append(result.number)
        batcher = pipeline._batcher
    assert all(numbers == list(range(20)) for numbers in seen.values())
    assert batcher.faces == 160 and batcher.batches < 150


def test_labels_flicker_ten_times_less(
    clip: Callable[..., Path], classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real faces that the network finds hard, in noise: single answers against tracks' labels."""
    pictures = []
    for sample in labelled("lfw")[::11]:
        picture = images.decode(sample.read(), sample.name)
        (found,) = classifier([picture])
        if 0.3 < found.female < 0.7:
            pictures.append(picture)
        if len(pictures) == 3:
            break
    path = str(clip("hard", pictures, 200, noise=20.0))
    single: dict[int, list[bool]] = {}
    labels: dict[int, list[Any]] = {}
    answer_of = {}

    class Watched(Batcher):
        def ask(self, crops: Any) -> np.ndarray:
            answers = super().ask(crops)
            answer_of[len(answer_of)] = answers
            return answers

    monkeypatch.setattr("gender_edge.pipeline.Batcher", Watched)
    with Pipeline([path], classifier, Scripted(3), smoothing=EVERY_FRAME) as pipeline:
        for result in pipeline:
            for place, face in enumerate(result.faces):
                single.setdefault(face.track, []).append(
                    bool(answer_of[result.number][place] > 0.5)
                )
                labels.setdefault(face.track, []).append(face.label)

    def flips(rows: dict[int, list[Any]]) -> int:
        kept = [[v for v in row if v is not None] for row in rows.values()]
        return sum(a != b for row in kept for a, b in zip(row, row[1:]))

    raw, smooth = flips(single), flips(labels)
    assert raw >= 20, "these faces do not flicker: the test shows nothing"
    assert 10 * smooth <= raw


def test_asyncio_and_callbacks(portrait_clip: Path, classifier: Classifier) -> None:
    async def collect() -> list[Result]:
        with Pipeline([str(portrait_clip)], classifier, Scripted(2)) as pipeline:
            return [result async for result in pipeline]

    assert len(asyncio.run(collect())) == 30
    called: list[Result] = []
    with Pipeline([str(portrait_clip)], classifier, Scripted(2)) as pipeline:
        pipeline.run(called.append)
    assert len(called) == 30


def test_a_detector_that_fails_ends_the_pipeline_and_leaves_no_thread(
    portrait_clip: Path, classifier: Classifier
) -> None:
    def broken(frame: np.ndarray) -> Faces:
        raise RuntimeError("no detector today")

    before = threading.active_count()
    with (
        Pipeline([str(portrait_clip)] * 2, classifier, broken) as pipeline,
        pytest.raises(RuntimeError, match="no detector today"),
    ):
        list(pipeline)
    assert threading.active_count() == before


def test_closing_in_the_middle_ends_everything(portrait_clip: Path, classifier: Classifier) -> None:
    """Also with results that nobody takes."""
    before = threading.active_count()
    pipeline = Pipeline([str(portrait_clip)] * 3, classifier, Scripted(1))
    next(iter(pipeline))
    time.sleep(0.1)
    pipeline.close()
    pipeline.close()
    assert threading.active_count() == before
    with pytest.raises(ValueError, match="at least one camera"):
        Pipeline([], classifier, Scripted(1))


def test_a_camera_that_dies_costs_the_others_nothing(
    rtsp: RtspServer, clip: Callable[..., Path], head: np.ndarray, classifier: Classifier
) -> None:
    """One of two live sources is killed: the other goes on, frame after frame."""
    steady = str(clip("steady", [head], 40))
    nothing = Faces(np.empty((0, 4), np.float32), None, np.empty(0, np.float32))
    cameras = [Camera(rtsp.url), Camera(steady, loop=True)]
    killed, numbers = False, []
    with Pipeline(cameras, classifier, lambda frame: nothing) as pipeline:
        for result in pipeline:
            if result.camera == 0 and not killed:
                rtsp.kill()
                killed = True
            elif result.camera == 1 and killed:
                numbers.append(result.number)
            if len(numbers) == 200:
                break
        stats = pipeline.stats()
    assert killed and numbers == list(range(numbers[0], numbers[0] + 200))
    assert stats[1]["dropped"] == 0
