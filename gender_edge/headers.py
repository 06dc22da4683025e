"""What the first bytes of a picture file tell before any pixel is decoded.

OpenCV has no way to ask for a picture's size: it allocates and decodes first, and it fills what a
truncated file lacks with grey and says nothing. Both are asked here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Optional

_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_START_OF_SCAN = 0xDA
_PNG_END = b"IEND\xaeB`\x82"
_BMP_OS2 = 12  # bytes of its header, whose sizes are shorter
_TIFF_ORDER: dict[bytes, Literal["little", "big"]] = {b"II*\0": "little", b"MM\0*": "big"}
_TIFF_WIDTH, _TIFF_HEIGHT, _TIFF_SHORT = 256, 257, 3  # two tags and a type


@dataclass(frozen=True)
class Header:
    """Size in pixels, and whether the file's end marker is there."""

    width: int
    height: int
    complete: bool


def inspect(data: bytes) -> Optional[Header]:
    """The header of a JPEG, PNG, WebP, BMP or TIFF file; None for anything else.

    WebP and TIFF count as complete: their decoders refuse cut files.
    """
    if data[:2] == b"\xff\xd8":
        return _jpeg(data)
    if data[:8] == b"\x89PNG\r\n\x1a\n" and len(data) >= 24:
        width, height = _big(data[16:20]), _big(data[20:24])
        return Header(width, height, complete=data.rfind(_PNG_END) >= 0)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP" and len(data) >= 30:
        return _webp(data)
    if data[:2] == b"BM" and len(data) >= 26:
        complete = len(data) >= _little(data[2:6])
        if data[14] == _BMP_OS2:
            return Header(_little(data[18:20]), _little(data[20:22]), complete)
        # A height below zero says that the rows go downwards.
        width, height = (int.from_bytes(data[i : i + 4], "little", signed=True) for i in (18, 22))
        return Header(abs(width), abs(height), complete)
    return _tiff(data) if data[:4] in _TIFF_ORDER else None


def _big(field: bytes) -> int:
    return int.from_bytes(field, "big")


def _little(field: bytes) -> int:
    return int.from_bytes(field, "little")


def _webp(data: bytes) -> Header:
    """Of its first chunk, whichever of three kinds (RFC 9649)."""
    kind = data[12:16]
    if kind == b"VP8X":
        return Header(1 + _little(data[24:27]), 1 + _little(data[27:30]), complete=True)
    if kind == b"VP8L":
        sizes = _little(data[21:25])
        return Header(1 + (sizes & 0x3FFF), 1 + (sizes >> 14 & 0x3FFF), complete=True)
    return Header(_little(data[26:28]) & 0x3FFF, _little(data[28:30]) & 0x3FFF, complete=True)


def _tiff(data: bytes) -> Optional[Header]:
    """Of its first directory, the only one that is decoded (TIFF 6.0, section 2)."""
    order = _TIFF_ORDER[data[:4]]

    def number(start: int, length: int) -> int:
        return int.from_bytes(data[start : start + length], order)

    directory = number(4, 4)
    sizes: dict[int, int] = {}
    for entry in range(directory + 2, directory + 2 + 12 * number(directory, 2), 12):
        length = 2 if number(entry + 2, 2) == _TIFF_SHORT else 4
        sizes.setdefault(number(entry, 2), number(entry + 8, length))
    if _TIFF_WIDTH not in sizes or _TIFF_HEIGHT not in sizes:
        return None
    return Header(sizes[_TIFF_WIDTH], sizes[_TIFF_HEIGHT], complete=True)


def _jpeg(data: bytes) -> Optional[Header]:
    """Walk the segments up to the first scan (ISO/IEC 10918-1, annex B).

    Within a scan 0xFF is escaped, so FF D9 behind its start can only be the end of the image; a
    thumbnail's own end marker lies before it, inside a segment that is stepped over.
    """
    size, position = None, 2
    while 0 <= (position := data.find(b"\xff", position)) <= len(data) - 4:
        marker, length = data[position + 1], _big(data[position + 2 : position + 4])
        if marker in (0x00, 0xFF):  # between segments; decoders step over it
            position += 1
            continue
        if marker in _START_OF_FRAME:
            size = _big(data[position + 7 : position + 9]), _big(data[position + 5 : position + 7])
        if marker == _START_OF_SCAN and size:
            return Header(*size, complete=data.find(b"\xff\xd9", position) >= 0)
        position += 2 + length
    return Header(*size, complete=False) if size else None
