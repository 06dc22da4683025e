from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gender_edge import CropRule, ImageError, headers, images

RULE = CropRule()


def encoded(array: np.ndarray, suffix: str) -> bytes:
    return cv2.imencode(suffix, array)[1].tobytes()


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (48, 40, 3), np.uint8)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".webp", ".jpg", ".tiff"])
def test_paths_and_bytes_give_the_same_pixels(
    picture: np.ndarray, tmp_path: Path, suffix: str
) -> None:
    data = encoded(picture, suffix)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(data)
    loaded = images.load(path)
    assert loaded.shape == picture.shape
    for same in (images.load(str(path)), images.load(data), images.load(bytearray(data))):
        np.testing.assert_array_equal(same, loaded)
    if suffix != ".jpg":
        assert np.abs(loaded.astype(int) - picture).mean() < (40 if suffix == ".webp" else 0.1)


def test_array_forms_agree(picture: np.ndarray) -> None:
    from PIL import Image

    rgb = np.ascontiguousarray(picture[:, :, ::-1])
    alpha = np.full((*picture.shape[:2], 1), 77, np.uint8)
    forms = [
        images.load(picture),
        images.load(rgb, "rgb"),
        images.load(np.dstack([picture, alpha])),
        images.load(np.dstack([rgb, alpha]), "rgb"),
        images.load(Image.fromarray(rgb)),
        images.load(np.asfortranarray(picture)),
    ]
    for form in forms:
        np.testing.assert_array_equal(form, picture)


def test_grey_forms_agree(picture: np.ndarray) -> None:
    grey = picture[:, :, 0]
    expected = np.repeat(grey[:, :, None], 3, 2)
    np.testing.assert_array_equal(images.load(grey), expected)
    np.testing.assert_array_equal(images.load(grey[:, :, None]), expected)


BAD_ARRAYS = {
    "no pixels": (np.zeros((0, 10, 3), np.uint8), "no pixels"),
    "NaN": (np.full((9, 9, 3), np.nan, np.float32), "NaN"),
    "float": (np.zeros((9, 9, 3)), "expected uint8"),
    "int64": (np.zeros((9, 9, 3), np.int64), "expected uint8"),
    "two channels": (np.zeros((9, 9, 2), np.uint8), "shape"),
    "one axis": (np.zeros(9, np.uint8), "shape"),
    "five axes": (np.zeros((1, 1, 1, 9, 9), np.uint8), "shape"),
    "20,000 pixels wide": (np.zeros((1, 20_000, 3), np.uint8), "20000x1"),
}


@pytest.mark.parametrize("name", BAD_ARRAYS)
def test_bad_arrays_are_refused(name: str) -> None:
    array, message = BAD_ARRAYS[name]
    with pytest.raises(ImageError, match=message):
        images.load(array)


PIL_MODES = ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV"]


@pytest.mark.parametrize("mode", PIL_MODES)
def test_pil_modes(picture: np.ndarray, mode: str) -> None:
    from PIL import Image

    image = Image.fromarray(picture).convert("RGB")
    image = image.convert("L").convert(mode) if mode == "LA" else image.convert(mode)
    assert images.load(image).shape == picture.shape


def test_pil_images_that_cannot_be_used(picture: np.ndarray) -> None:
    from io import BytesIO

    from PIL import Image

    data = encoded(cv2.resize(picture, (200, 200)), ".jpg")
    truncated = Image.open(BytesIO(data[: len(data) // 2]))
    with pytest.raises(ImageError, match="damaged"):
        images.load(truncated)
    with pytest.raises(ImageError, match="8 bits"):
        images.load(Image.fromarray(picture[:, :, 0].astype(np.uint16)))
    with pytest.raises(ImageError, match="0x10"):
        images.load(Image.new("RGB", (0, 10)))


def test_wrong_color_word_and_type_are_refused(picture: np.ndarray) -> None:
    with pytest.raises(ImageError, match="'bgr' or 'rgb'"):
        images.load(picture, "rbg")
    with pytest.raises(ImageError, match="cannot read an image from int"):
        images.load(3)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp"])
@pytest.mark.parametrize("share", [0.3, 0.7, 0.95])
def test_truncated_files_are_refused(picture: np.ndarray, suffix: str, share: float) -> None:
    data = encoded(cv2.resize(picture, (200, 200)), suffix)
    with pytest.raises(ImageError):
        images.load(data[: int(len(data) * share)])


def test_jpeg_with_thumbnail_and_trailing_bytes(picture: np.ndarray) -> None:
    """A thumbnail's end marker does not count, and what cameras append does no harm."""
    data = encoded(cv2.resize(picture, (200, 200)), ".jpg")
    thumbnail = encoded(picture, ".jpg")
    exif = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    whole = data[:2] + exif + data[2:]
    assert images.load(whole + bytes(5000)).shape == (200, 200, 3)
    with pytest.raises(ImageError, match="truncated"):
        images.load(whole[: len(exif) + len(data) // 2])


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "zero bytes"), (b"this is no picture", "not an image"), (b"\xff\xd8", "not an image")],
)
def test_files_that_are_no_images(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "text.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=message):
        images.load(path)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no such file"):
        images.load(tmp_path / "a.jpg")
    for path in (tmp_path, "a\0b.jpg"):
        with pytest.raises(ImageError, match="cannot be read"):
            images.load(path)


def test_a_huge_png_is_refused_before_it_is_decoded() -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IEND", b"")
    with pytest.raises(ImageError, match="60000x60000"):
        images.load(png)


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        ("JPEG", {}),
        ("PNG", {}),
        ("BMP", {}),
        ("WEBP", {}),
        ("WEBP", {"lossless": True}),
        ("WEBP", {"exif": b"Exif\0\0MM\0*"}),  # its extended form
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
    ],
)
def test_sizes_are_known_before_decoding(suffix: str, options: dict[str, Any]) -> None:
    from io import BytesIO

    from PIL import Image

    file = BytesIO()
    Image.new("RGB", (300, 20)).save(file, suffix, **options)
    header = headers.inspect(file.getvalue())
    assert header == headers.Header(300, 20, complete=True)
    assert images.load(file.getvalue()).shape == (20, 300, 3)


def _tiff(order: str, width: int, height: int) -> bytes:
    """A header and a directory of 32-bit numbers, without pixels."""
    numbers = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 273: 8, 278: height, 279: 1}
    entries = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, v) for tag, v in numbers.items())
    magic = b"II" if order == "<" else b"MM"
    return magic + struct.pack(f"{order}HIH", 42, 8, len(numbers)) + entries + bytes(4)


def _os2_bitmap(width: int, height: int) -> bytes:
    return b"BM" + struct.pack("<IHHIIHHHH", 26, 0, 0, 26, 12, width, height, 1, 24)


HUGE = {
    "TIFF": _tiff("<", 20_000, 20_000),
    "TIFF, big-endian": _tiff(">", 20_000, 20_000),
    "OS/2 bitmap": _os2_bitmap(20_000, 20_000),
    "WebP": b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + 2 * (19_999).to_bytes(3, "little"),
}


@pytest.mark.parametrize("name", HUGE)
def test_huge_pictures_are_refused_before_they_are_decoded(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(cv2, "imdecode")
    with pytest.raises(ImageError, match="20000x20000"):
        images.load(HUGE[name])


@pytest.mark.parametrize("suffix", [".ppm", ".gif"])
def test_other_formats_are_refused(picture: np.ndarray, suffix: str) -> None:
    if not cv2.haveImageWriter(suffix):
        pytest.skip(f"this OpenCV writes no {suffix}")
    with pytest.raises(ImageError, match="expected JPEG, PNG, WebP, BMP or TIFF"):
        images.load(encoded(picture, suffix))


def test_bytes_between_segments_do_no_harm(picture: np.ndarray) -> None:
    """Decoders step over them, and so does what looks for the size."""
    data = encoded(picture, ".jpg")
    first = 4 + int.from_bytes(data[4:6], "big")  # where the first segment ends
    assert images.load(data[:first] + bytes(7) + data[first:]).shape == picture.shape


def test_png_with_trailing_bytes(picture: np.ndarray) -> None:
    assert images.load(encoded(picture, ".png") + bytes(500)).shape == picture.shape


def test_exif_orientation_is_applied() -> None:
    from io import BytesIO

    from PIL import Image

    upright = Image.new("RGB", (40, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by a quarter
    file = BytesIO()
    upright.save(file, "JPEG", exif=exif)
    assert images.load(file.getvalue()).shape == (40, 20, 3)
    assert images.load(Image.open(file)).shape == (40, 20, 3)


@given(st.binary(max_size=300), st.sampled_from([b"", b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"BM"]))
def test_random_bytes_raise_only_our_error(tail: bytes, magic: bytes) -> None:
    with pytest.raises(ImageError):
        images.load(magic + tail)


@given(
    scale=st.floats(5, 500),
    angle=st.floats(-3.1, 3.1),
    shift=arrays(float, 2, elements=st.floats(-1000, 1000)),
)
def test_alignment_undoes_any_similarity(scale: float, angle: float, shift: np.ndarray) -> None:
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    template = np.array(RULE.landmarks)
    points = template @ (scale * turn).T + shift
    matrix = images.aligned_matrix(points, RULE)
    found = points @ matrix[:, :2].T + matrix[:, 2]
    np.testing.assert_allclose(found, template, atol=1e-6)


def test_alignment_is_the_least_squares_similarity() -> None:
    """Nudging any of the four parameters must not bring noisy points closer."""
    rng = np.random.default_rng(1)
    points = np.array(RULE.landmarks) * 80 + rng.normal(0, 3, (5, 2))
    matrix = images.aligned_matrix(points, RULE)

    def error(m: np.ndarray) -> float:
        return float(((points @ m[:, :2].T + m[:, 2] - RULE.landmarks) ** 2).sum())

    best = error(matrix)
    directions = [[[1, 0, 0], [0, 1, 0]], [[0, -1, 0], [1, 0, 0]], [[0, 0, 1], [0, 0, 0]]]
    for direction in (*directions, [[0, 0, 0], [0, 0, 1]]):
        for step in (1e-4, -1e-4):
            assert error(matrix + step * np.array(direction)) > best


BAD_BOXES = [
    (0, 0, 1e200, 1e200),
    (1, 2, 0, 5),
    (1, 2, 3),
    (1, 2, np.nan, 4),
    (0, 0, -3, 4),
    "box",
    {},
    [1, [2], 3, 4],
]


@pytest.mark.parametrize("box", BAD_BOXES)
def test_bad_boxes_are_refused(box: Any) -> None:
    with pytest.raises(ImageError, match="box"):
        images.box_matrix(box, RULE)


def test_bad_landmarks_are_refused() -> None:
    with pytest.raises(ImageError, match="coincide"):
        images.aligned_matrix(np.ones((5, 2)), RULE)
    with pytest.raises(ImageError, match="finite numbers"):
        images.aligned_matrix(np.ones((4, 2)), RULE)
    for factor in (1e8, 1e200):
        with pytest.raises(ImageError, match="none beyond 1000000"):
            images.aligned_matrix(np.array(RULE.landmarks) * factor, RULE)


@pytest.mark.parametrize("angle", [0.0, 0.5, 3.0])
@pytest.mark.parametrize(
    "wrong",
    [
        lambda face: face[[1, 0, 2, 4, 3]],  # the person's left first
        lambda face: face[:, ::-1],  # y before x
        lambda face: face * (-1, 1),
    ],
)
def test_landmarks_that_lie_as_no_face_does_are_refused(wrong: Any, angle: float) -> None:
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    face = 90 * np.array(RULE.landmarks) @ turn + 40
    images.aligned_matrix(face, RULE)
    with pytest.raises(ImageError, match="lie as no face's do"):
        images.aligned_matrix(wrong(face), RULE)


def test_a_face_in_profile_has_landmarks() -> None:
    points = 90 * np.array(RULE.landmarks)
    middle = points[:, 0].mean()
    points[:, 0] = middle + 0.1 * (points[:, 0] - middle)
    assert np.isfinite(images.aligned_matrix(points, RULE)).all()


@pytest.mark.parametrize("side", [31, 64, 100, 333, 1000])
def test_cut_keeps_positions_at_any_scale(side: int) -> None:
    """A horizontal ramp stays a ramp, not shifted by half a pixel, however much it is shrunk."""
    ramp = np.tile(np.linspace(0, 255, side)[None, :, None], (side, 1, 3)).astype(np.uint8)
    crop = images.cut(ramp, images.whole_matrix(ramp.shape), 32, 0)
    expected = (np.arange(32) + 0.5) / 32 * 255
    inner = slice(2, -2)
    np.testing.assert_allclose(crop[16, inner, 0], expected[inner], atol=255 / min(side, 60))


@pytest.mark.parametrize(("side", "tolerance"), [(640, 1), (500, 25), (300, 50), (2000, 10)])
def test_cut_does_not_alias(side: int, tolerance: int) -> None:
    """One-pixel stripes shrunk many times are near grey; a bare warp would leave 127."""
    stripes = np.zeros((side, side, 3), np.uint8)
    stripes[:, ::2] = 255
    crop = images.cut(stripes, images.whole_matrix(stripes.shape), 64, 0)
    assert np.abs(crop.astype(int) - 127).max() <= tolerance


def test_cut_fills_what_lies_outside(picture: np.ndarray) -> None:
    crop = images.cut(picture, images.box_matrix((-20, -20, 30, 30), RULE), 16, 127)
    assert (crop[:8, :8] == 127).all()
    assert (crop[-4:, -4:] != 127).any()


@pytest.mark.parametrize(
    "box",
    [
        (-200, -200, 30, 30),
        (500, 0, 9, 9),
        (0.3, 0.1, 0.2, 0.25),
        (0, 0, 1e5, 1e5),  # the picture would be a pixel of it
        (-31, 0, 32, 32),  # touches it
    ],
)
def test_cut_refuses_what_is_not_in_the_picture(picture: np.ndarray, box: Any) -> None:
    with pytest.raises(ImageError, match="does not lie in the 40x48 picture"):
        images.cut(picture, images.box_matrix(box, RULE), 16, 127)


@pytest.mark.parametrize(("width", "side"), [(10, 10), (40, 20), (90, 20), (4000, 20)])
def test_whole_takes_the_square_of_its_area(width: int, side: int) -> None:
    """About the centre; the columns that a square of that side holds are 200, the others 90."""
    wide = np.full((10, width, 3), 90, np.uint8)
    start = (width - min(side, width)) // 2
    wide[:, start : start + side] = 200
    for picture in (wide, wide.transpose(1, 0, 2)):
        crop = images.cut(picture, images.whole_matrix(picture.shape), side, 0)
        crop = crop if picture is wide else crop.transpose(1, 0, 2)
        bar = (side - 10) // 2
        assert (crop[bar : side - bar] == 200).all()
        assert not crop[:bar].any() and not crop[side - bar :].any()


def test_a_crop_without_area_is_told() -> None:
    with pytest.raises(ImageError, match="has no size"):
        images.cut(np.zeros((50, 50, 3), np.uint8), np.zeros((2, 3)), 32, 127)
