from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from gender_edge import ArgumentError, Classifier, DataError, Prediction, images
from gender_edge.batcher import Batcher
from gender_edge.camera import Camera
from gender_edge.faces import Detector, Faces
from gender_edge.pipeline import BACKLOG, Pipeline, Result
from gender_edge.tracks import Smoothing
from tests.camera.conftest import (
    EVERY_FRAME,
    SIDE,
    SIZE,
    RtspServer,
    Scripted,
    drawn_number,
    place,
    wait_for,
)
from tests.conftest import PORTRAIT_BOX, labelled

BOX = np.array([[40, 40, 60, 60]])


def test_real_faces_are_found_and_followed(
    portrait_clip: Path, any_detector: Detector, sure_model: Path
) -> None:
    with (
        Classifier(str(sure_model)) as classifier,
        Pipeline([str(portrait_clip)], classifier, any_detector) as pipeline,
    ):
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
        lambda frame: BOX,
        smoothing=EVERY_FRAME,
        keep_frames=True,
    ) as pipeline:
        seen: dict[int, list[int]] = {n: [] for n in range(8)}
        for result in pipeline:
            assert result.image is not None and result.latency > 0
            seen[result.camera].append(drawn_number(result.image))
            assert seen[result.camera][-1] == result.number
        batcher = pipeline._batcher
    assert all(numbers == list(range(20)) for numbers in seen.values())
    assert batcher.faces == 160 and batcher.batches < 150


def test_both_labels_where_they_are(
    clip: Callable[..., Path], any_detector: Detector, classifier: Classifier
) -> None:
    """Faces of known labels at known places: all are found there, and called what they are."""
    samples = labelled("lfw")
    women, men = ([s for s in samples if s.label == label] for label in ("female", "male"))
    shown = [women[0], men[0], women[1]]
    pictures = [images.decode(sample.read(), sample.name) for sample in shown]
    with Pipeline([str(clip("both", pictures, 40))], classifier, any_detector) as pipeline:
        results = list(pipeline)
    found = 0
    labels: dict[int, set[tuple[int, Any]]] = {}
    for result in results:
        for face in result.faces:
            (x, y, width, height), number = face.box, int(face.box[0] * 3 / SIZE[0])
            left, top = place(number, 3, result.number)
            assert abs(x + width / 2 - left - SIDE / 2) < 0.15 * SIDE
            assert abs(y + height / 2 - top - SIDE / 2) < 0.15 * SIDE
            assert 0.3 * SIDE < width < 0.9 * SIDE
            found += 1
            labels.setdefault(face.track, set()).add((number, face.label))
    assert found >= 0.98 * 40 * 3
    assert len(labels) == 3
    for number, sample in enumerate(shown):
        assert {(number, sample.label)} in [own - {(number, None)} for own in labels.values()]


def test_labels_flicker_ten_times_less(
    clip: Callable[..., Path], classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real faces that the network finds hard, in noise: single answers against tracks' labels."""
    answers: list[list[Prediction]] = []

    class Watched(Batcher):
        def ask(self, crops: Any) -> list[Prediction]:
            answers.append(super().ask(crops))
            return answers[-1]

    monkeypatch.setattr("gender_edge.pipeline.Batcher", Watched)
    single, smooth = [], []  # a row a face, a column a frame: whether the label is right, or None
    for label, pictures in _hard(classifier).items():
        path = str(clip(f"hard {label}", pictures, 120, noise=20.0))
        answers.clear()
        with Pipeline([path], classifier, Scripted(3), smoothing=EVERY_FRAME) as pipeline:
            tracks = [[face.label for face in result.faces] for result in pipeline]
        smooth += [[own and own == label for own in row] for row in zip(*tracks)]
        single += [[(p.female > 0.5) == (label == "female") for p in row] for row in zip(*answers)]

    def flips(rows: list[list[Any]]) -> int:
        kept = [[v for v in row if v is not None] for row in rows]
        return sum(a != b for row in kept for a, b in zip(row, row[1:]))

    assert flips(single) >= 40, "these faces do not flicker: the test shows nothing"
    assert 10 * flips(smooth) <= flips(single)
    there = np.array([[own is not None for own in row] for row in smooth])
    assert there.mean() > 0.8
    right = np.array(smooth, object)[there].astype(bool)
    # Of a face that is mostly told wrong, smoothing loses the answers that were right.
    assert right.mean() >= np.array(single)[there].mean() - 0.05


def _hard(classifier: Classifier) -> dict[str, list[np.ndarray]]:
    """Three faces of each label, the first whose answers are neither clear nor right for sure."""
    hard: dict[str, list[np.ndarray]] = {"female": [], "male": []}
    for sample in labelled("lfw")[::5]:
        if len(hard[sample.label]) == 3:
            continue
        picture = images.decode(sample.read(), sample.name)
        (found,) = classifier([picture])
        if 0.1 < found.female < 0.9:
            hard[sample.label].append(picture)
    return hard


def test_an_interrupt_that_leaves_the_lock_taken_ends_it(
    portrait_clip: Path, classifier: Classifier, center_face: Detector
) -> None:
    """As Ctrl-C does when it comes while `with` takes it."""

    def interrupted() -> None:
        with Pipeline([Camera(str(portrait_clip), loop=True)], classifier, center_face) as pipeline:
            next(iter(pipeline))
            pipeline._changed.acquire()

    thread = threading.Thread(target=interrupted, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()


def test_callbacks(portrait_clip: Path, classifier: Classifier) -> None:
    called: list[Result] = []
    with Pipeline([str(portrait_clip)], classifier, Scripted(2)) as pipeline:
        pipeline.run(called.append)
    assert [result.number for result in called] == list(range(30))


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
    with pytest.raises(ArgumentError, match="at least one camera"):
        Pipeline([], classifier, Scripted(1))


def test_a_camera_that_dies_costs_the_others_nothing(
    rtsp: RtspServer, clip: Callable[..., Path], head: np.ndarray, classifier: Classifier
) -> None:
    """One of four live sources is killed and comes again: the others go on, frame after frame, and
    whoever stands there then is not who stood there before.
    """
    steady = str(clip("steady", [head], 20, fps=5))
    cameras = [Camera(rtsp.url), *(Camera(steady, live=True, loop=True) for _ in range(3))]
    results: list[Result] = []

    def look(frame: np.ndarray) -> np.ndarray:
        return BOX if len(frame) == 120 else BOX[:0]  # somebody before the camera that dies

    def of(camera: int) -> list[Result]:
        return [result for result in list(results) if result.camera == camera]

    smoothing = Smoothing(sure=1e9, forget=1e9)  # time alone ends no track here
    with Pipeline(cameras, classifier, look, smoothing=smoothing) as pipeline:
        consumer = threading.Thread(target=pipeline.run, args=(results.append,))
        consumer.start()
        assert wait_for(lambda: all(of(number) for number in range(4)), 15)
        dropped = [own["dropped"] for own in pipeline.stats()]  # while all of this began
        start = [of(number)[-1].number for number in range(4)]
        rtsp.kill()
        time.sleep(1)
        before = len(of(0))
        rtsp.start()
        assert wait_for(lambda: len(of(0)) > before, 5)
        seen = len(of(1))
        assert wait_for(lambda: len(of(1)) > seen + 3, 10)
        stats = pipeline.stats()
        pipeline.close()
        consumer.join(10)
    assert [own["reconnects"] for own in stats] == [1, 0, 0, 0]
    assert [own["dropped"] for own in stats[1:]] == dropped[1:]
    for camera in (1, 2, 3):
        numbers = [result.number for result in of(camera) if result.number >= start[camera]]
        assert numbers == list(range(start[camera], start[camera] + len(numbers)))
        assert len(numbers) > 8
    tracks = [face.track for result in of(0) for face in result.faces]
    assert set(tracks[:before]) == {1} and set(tracks[before:]) == {2}


def test_eight_live_cameras_share_batches(rtsp: RtspServer, classifier: Classifier) -> None:
    """Of one server, so that their frames come together, as long as a detector takes."""
    seen: dict[int, list[int]] = {number: [] for number in range(8)}

    def look(frame: np.ndarray) -> np.ndarray:
        time.sleep(0.02)
        return BOX

    with Pipeline(
        [rtsp.url] * 8, classifier, look, smoothing=EVERY_FRAME, max_delay=0.05
    ) as pipeline:
        for result in pipeline:
            seen[result.camera].append(result.number)
            if all(len(numbers) >= 20 for numbers in seen.values()):
                break
        stats, batching = pipeline.stats(), pipeline.batching()
    for numbers, own in zip(seen.values(), stats):
        assert numbers == sorted(set(numbers))  # none twice, none before another
        assert numbers[-1] + 1 <= len(numbers) + own["dropped"]  # and each was taken or counted
        assert own["p99_ms"] < 1000
    assert batching["faces_per_batch"] >= 3


@pytest.mark.parametrize("points", [None, np.zeros((1, 5, 2))], ids=["boxes", "bad landmarks"])
def test_pictures_are_dropped_at_once(
    points: Any, portrait_clip: Path, classifier: Classifier
) -> None:
    """Nothing keeps a frame while its result waits to be taken, nor crops after their answer; nor
    does the error of landmarks that will not do.
    """
    frames: list[Any] = []
    crops: list[Any] = []

    class Watched:
        spec, batch_size = classifier.spec, classifier.batch_size
        crop = staticmethod(classifier.crop)

        def predict(self, batch: np.ndarray) -> list[Prediction]:
            crops.append(weakref.ref(batch))
            return classifier.predict(batch.copy())  # an engine keeps its last input

    def look(frame: np.ndarray) -> tuple[np.ndarray, Any]:
        frames.append(weakref.ref(frame))
        return BOX, points

    with Pipeline([str(portrait_clip)], Watched(), look):  # type: ignore[arg-type]
        assert wait_for(lambda: len(crops) == BACKLOG + 1, 10)  # the last finds no room
        assert wait_for(lambda: not any(own() is not None for own in frames + crops), 5)


def test_sources_are_any_list_but_no_word(portrait_clip: Path, classifier: Classifier) -> None:
    with Pipeline((str(portrait_clip) for _ in range(2)), classifier, Scripted(1)) as pipeline:
        assert {result.camera for result in pipeline} == {0, 1}
    camera = Camera(str(portrait_clip))
    for lone in (str(portrait_clip), portrait_clip, b"x", 0, None, camera):
        with pytest.raises(ArgumentError, match="expected a list"):
            Pipeline(lone, classifier, Scripted(1))  # type: ignore[arg-type]
    assert camera.ended


@pytest.mark.parametrize("sources", ["none.mp4", None])
def test_it_opens_whole_or_not_at_all(
    sources: str | None, portrait_clip: Path, tmp_path: Path, classifier: Classifier
) -> None:
    """All cameras are closed, those after the missing one too."""
    before = threading.active_count()
    given = [Camera(str(portrait_clip), live=True, loop=True) for _ in range(2)]
    if sources:
        with pytest.raises(DataError, match="no such file"):
            Pipeline([given[0], str(tmp_path / sources), given[1]], classifier, Scripted(1))
    else:
        with pytest.raises(ArgumentError, match="max_batch=0"):
            Pipeline(given, classifier, Scripted(1), max_batch=0)
    assert all(camera.ended for camera in given) and threading.active_count() == before


def test_faces_that_cannot_be_cut_are_counted_and_told_once(
    clip: Callable[..., Path], head: np.ndarray, classifier: Classifier, caplog: Any
) -> None:
    """Boxes in shares of the frame, as some detectors give them."""
    path = str(clip("shares", [head], 5))
    boxes = np.array([[0.1, 0.1, 0.2, 0.2]])
    with Pipeline([path], classifier, lambda frame: boxes) as pipeline:
        results = list(pipeline)
        (stats,) = pipeline.stats()
    assert {face.label for result in results for face in result.faces} == {None}
    assert (stats["faces"], stats["uncut"], stats["answers"]) == (5, 5, 0)
    (told,) = (r.getMessage() for r in caplog.records if r.levelname == "WARNING")
    assert "shares" in told and "in its pixels" in told


def test_landmarks_that_lie_as_no_faces_do_leave_the_box(
    clip: Callable[..., Path], head: np.ndarray, classifier: Classifier, caplog: Any
) -> None:
    """Their left and right have changed places, as in the order of some detectors; of one face
    the box is useless too.
    """
    path = str(clip("changed places", [head], 5))
    x, y = place(0, 1, 0)
    boxes = np.array([[x + 40, y + 30, 70, 90], [9000, 0, 50, 50]])
    eyes, mouth = ((x + 90, y + 60), (x + 55, y + 60)), ((x + 90, y + 100), (x + 55, y + 100))
    points = np.float32([(*eyes, (x + 72, y + 80), *mouth)] * 2)
    answers = []
    for given in (boxes, (boxes, points)):
        caplog.clear()
        with Pipeline(
            [path], classifier, lambda frame, own=given: own, smoothing=EVERY_FRAME
        ) as pipeline:
            answers.append([result.faces[0].female for result in pipeline])
            (stats,) = pipeline.stats()
        assert (stats["faces"], stats["answers"], stats["uncut"]) == (10, 5, 5)
        assert stats["unaligned"] == (5 if given is not boxes else 0)
        told = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
        assert sum("no crop of a face" in line for line in told) == 1
        by_box = [line for line in told if "cut by its box" in line]
        assert len(by_box) == (given is not boxes) and len(told) == 1 + len(by_box)
    assert answers[0] == pytest.approx(answers[1], abs=1e-5) and answers[0][0] != 0.5
    assert "changed places.mp4, frame 0" in by_box[0] and "eye on the" in by_box[0]


def test_detectors_that_users_have(
    portrait: np.ndarray, tmp_path: Path, classifier: Classifier
) -> None:
    """A callable that gives boxes, or boxes and landmarks: with those a face is aligned."""
    path = str(tmp_path / "portrait0.png")
    cv2.imwrite(path, portrait)
    boxes = np.array([PORTRAIT_BOX])
    points = np.float32([[[202, 110], [242, 108], [225, 136], [207, 148], [244, 146]]])
    answers = []
    for given in (boxes, (boxes, None), (boxes, points)):
        with Pipeline([path], classifier, lambda frame, own=given: own) as pipeline:
            (result,) = pipeline
        (face,) = result.faces
        assert face.box == PORTRAIT_BOX
        answers.append(face.female)
    boxed, aligned = (
        classifier.in_frame(portrait, boxes),
        classifier.in_frame(portrait, boxes, points),
    )
    assert answers == pytest.approx([boxed[0].female, boxed[0].female, aligned[0].female], abs=2e-3)
    assert boxed[0].female != pytest.approx(aligned[0].female, abs=1e-6)
