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

from gender_edge import ArgumentError, ImageError, headers, images


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
    with pytest.raises(ArgumentError, match="'bgr' or 'rgb'"):
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
