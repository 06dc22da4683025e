from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

import gender_edge
from gender_edge import (
    ArgumentError,
    BackendError,
    Classifier,
    ImageError,
    Prediction,
)
from tests.conftest import PORTRAIT_BOX

LANDMARKS = [[200, 102], [247, 103], [220, 125], [199, 143], [240, 144]]


def test_portrait(shipped: str, portrait_path: Path) -> None:
    """Answers hang together; whether they are right, one picture cannot tell (a woman with short
    hair is hard for some)."""
    with Classifier(shipped) as classifier:
        (by_box,) = classifier.in_frame(portrait_path, [PORTRAIT_BOX])
        (aligned,) = classifier.in_frame(portrait_path, [PORTRAIT_BOX], [LANDMARKS])
    for prediction in (by_box, aligned):
        surer = max(prediction.female, 1 - prediction.female)
        assert prediction.confidence == pytest.approx(surer, abs=1e-6)
        assert prediction.label in (None, "female" if prediction.female > 0.5 else "male")
    assert by_box != aligned  # the two are cut differently


def test_default_recognises_the_portrait(classifier: Classifier, portrait_path: Path) -> None:
    assert classifier.in_frame(portrait_path, [PORTRAIT_BOX])[0].label == "female"


def test_all_input_forms_agree(classifier: Classifier, face: np.ndarray, tmp_path: Path) -> None:
    from PIL import Image

    data = cv2.imencode(".png", face)[1].tobytes()
    path = tmp_path / "face.png"
    path.write_bytes(data)
    rgb = np.ascontiguousarray(face[:, :, ::-1])
    expected = classifier(face)
    assert len(expected) == 1
    mixed = classifier([str(path), path, data, face, Image.fromarray(rgb)])
    assert classifier(rgb, color="rgb") == expected
    assert classifier(np.stack([face, face])) == expected * 2
    assert classifier(p for p in [path]) == expected
    for prediction in mixed:
        assert prediction.female == pytest.approx(expected[0].female, abs=1e-5)


def test_batches_equal_single_calls(shipped: str, face: np.ndarray) -> None:
    faces = [cv2.convertScaleAbs(face, alpha=a) for a in np.linspace(0.3, 1.5, 11)]
    with Classifier(shipped, batch_size=4) as classifier:
        together = classifier(faces)
        alone = [classifier(f)[0] for f in faces]
    for one, other in zip(together, alone):
        assert one.female == pytest.approx(other.female, abs=1e-4)


def test_a_batch_is_one_run(classifier: Classifier, face: np.ndarray) -> None:
    calls = []
    inner = classifier._backend

    class Counting:
        def __getattr__(self, name: str) -> object:
            return getattr(inner, name)

        def run(self, batch: np.ndarray) -> np.ndarray:
            calls.append(len(batch))
            return inner.run(batch)

    classifier._backend = Counting()  # type: ignore[assignment]
    try:
        classifier([face] * 150)
        classifier.in_frame(face, [(0, 0, 50, 50)] * 7)
        ready = np.stack([classifier.crop(face)] * 70)
        together = classifier.probabilities(ready)
        assert classifier.probabilities(ready[:0]).shape == (0, 2)
    finally:
        classifier._backend = inner
    assert calls == [64, 64, 22, 7, 64, 6, 0]
    np.testing.assert_allclose(
        together, classifier.probabilities(ready[:1]).repeat(70, 0), atol=1e-4
    )


def test_many_threads(classifier: Classifier, face: np.ndarray) -> None:
    faces = [cv2.convertScaleAbs(face, alpha=a) for a in np.linspace(0.3, 1.5, 24)]
    alone = [classifier(f)[0].female for f in faces]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda f: classifier(f)[0].female, faces * 4))
    assert together == pytest.approx(alone * 4, abs=1e-6)


def test_one_bad_input_raises_or_takes_one_place(classifier: Classifier, face: np.ndarray) -> None:
    inputs = [face] * 70 + ["missing.jpg"] + [face] * 5
    with pytest.raises(ImageError, match=r"face 70: missing.jpg"):
        classifier(inputs)
    results = classifier(inputs, errors="return")
    assert len(results) == 76
    assert isinstance(results[70], ImageError)
    assert all(isinstance(r, Prediction) for i, r in enumerate(results) if i != 70)
    assert len(classifier(["missing.jpg"], errors="return")) == 1
    with pytest.raises(ArgumentError, match="'raise' or 'return'"):
        classifier(inputs, errors="ignore")


def test_an_array_of_names_is_a_list_of_them(
    classifier: Classifier, portrait_path: Path, face: np.ndarray
) -> None:
    names = np.array([str(portrait_path)] * 2)
    assert classifier(names) == classifier([str(portrait_path)] * 2)
    with pytest.raises(ImageError, match="face 1"):
        classifier(np.array([face, None], dtype=object))


def test_nothing_in_nothing_out(classifier: Classifier, face: np.ndarray) -> None:
    assert classifier([]) == []
    with pytest.raises(ArgumentError, match="expected 'bgr' or 'rgb'"):
        classifier([], color="grb")
    with pytest.raises(ArgumentError, match="expected 'raise' or 'return'"):
        classifier.classify_cuts([], errors="ignore")
    assert classifier.in_frame(face, []) == []


def test_in_frame_refuses_what_does_not_fit(classifier: Classifier, face: np.ndarray) -> None:
    with pytest.raises(ImageError, match="boxes or landmarks"):
        classifier.in_frame(face)
    with pytest.raises(ImageError, match="2 boxes but 1"):
        classifier.in_frame(face, [(0, 0, 9, 9)] * 2, [LANDMARKS])
    with pytest.raises(ImageError, match="cannot read faces from int"):
        classifier(5)
    with pytest.raises(ImageError, match="expected one for each face"):
        classifier.in_frame(face, 5)  # type: ignore[arg-type]
    with pytest.raises(ImageError, match="face 1: neither a box nor landmarks"):
        classifier.in_frame(face, [(0, 0, 90, 90), None])
    with pytest.raises(ArgumentError, match="'bgr' or 'rgb'"):
        classifier("a.jpg", color="rbg", errors="return")


def test_one_bad_box_takes_one_place(classifier: Classifier, face: np.ndarray) -> None:
    boxes = [(0, 0, 90, 90), (5, 5, 0, 0), (3, 3, 80, 90)]
    results = classifier.in_frame(face, iter(boxes), errors="return")
    assert [isinstance(r, Prediction) for r in results] == [True, False, True]
    with pytest.raises(ImageError, match="face 1: box"):
        classifier.in_frame(face, np.array(boxes))


def test_a_returned_error_keeps_no_picture(classifier: Classifier, face: np.ndarray) -> None:
    frame = face.copy()
    watched = weakref.ref(frame)
    gc.disable()
    try:
        (kept,) = classifier.in_frame(frame, [(5, 5, 0, 0)], errors="return")
        del frame
        assert isinstance(kept, ImageError) and watched() is None
    finally:
        gc.enable()


def test_abstains_below_the_threshold(classifier: Classifier, face: np.ndarray) -> None:
    limits = classifier._limits
    try:
        classifier._limits = np.array([0.0, 0.0])
        (always,) = classifier(face)
        classifier._limits = np.array([1.1, 1.1])
        (never,) = classifier(face)
    finally:
        classifier._limits = limits
    assert always.label == ("female" if always.female > 0.5 else "male")
    assert never == Prediction(None, always.female, always.confidence)


def test_predict_refuses_other_crops(classifier: Classifier) -> None:
    with pytest.raises(ImageError, match=r"Classifier\.crop"):
        classifier.predict(np.zeros((1, 5, 5, 3), np.uint8))


def test_nonsense_options() -> None:
    for options in ({"threads": 0}, {"threads": "2"}, {"batch_size": 0}, {"threads": True}):
        with pytest.raises(ArgumentError, match="whole number"):
            Classifier(**options)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="shipped name or a path"):
        Classifier(5)  # type: ignore[arg-type]
    with Classifier(threads=np.int64(1), batch_size=np.uint8(4)) as classifier:  # type: ignore[arg-type]
        assert classifier.batch_size == 4


def test_repr_says_what_runs(shipped: str) -> None:
    with Classifier(shipped, device="onnxruntime", threads=1) as classifier:
        text = repr(classifier)
    precision = shipped.rsplit("_", 1)[1]
    for part in (shipped, "onnxruntime", "CPUExecutionProvider", f"precision='{precision}'"):
        assert part in text


def test_closed_classifier_says_so(face: np.ndarray) -> None:
    with Classifier() as classifier:
        pass
    with pytest.raises(BackendError, match="closed"):
        classifier.predict(np.zeros((1, *classifier.crop(face).shape), np.uint8))


def test_import_is_light() -> None:
    """No torch, no engine, no threads at import: counted by modules, not by the clock."""
    code = (
        "import sys, threading, gender_edge; "
        "print([m for m in ('torch', 'onnxruntime', 'tensorrt', 'pycuda', 'matplotlib', 'PIL')"
        " if m in sys.modules], threading.active_count())"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split("\n")[0] == "[] 1"


@pytest.mark.skipif(sys.platform != "linux", reason="limits a process's memory as Linux does")
def test_a_classifier_that_waits_costs_no_processor_time() -> None:
    """At the pace of a camera, in a process of its own: counted in time of the processor."""
    code = """if True:
        import time, numpy, gender_edge
        classifier = gender_edge.Classifier(device="onnxruntime", threads=2)
        crops = numpy.zeros((1, 64, 64, 3), "u1")
        waited = 0.0
        for _ in range(20):
            classifier.predict(crops)
            begin = time.process_time()
            time.sleep(0.03)
            waited += time.process_time() - begin
        print(waited)"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(run.stdout) < 0.1  # s; with threads that spin 0.6


def test_public_names() -> None:
    for name in gender_edge.__all__:
        assert getattr(gender_edge, name).__doc__
