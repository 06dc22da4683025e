"""What the first bytes of a picture file tell before any pixel is decoded.

OpenCV has no way to ask for a picture's size: it allocates and decodes first, and it fills what a
truncated file lacks with grey and says nothing. Both are asked here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_START_OF_SCAN = 0xDA
_PNG_END = b"IEND\xaeB`\x82"
_BMP_HEADER = 40  # bytes; OS/2's shorter one has its sizes elsewhere


@dataclass(frozen=True)
class Header:
    """Size in pixels, and whether the file's end marker is there."""

    width: int
    height: int
    complete: bool


def inspect(data: bytes) -> Optional[Header]:
    """The header of a JPEG, PNG or BMP file; None for other formats and for damaged headers.

    WebP needs none: its format ends at 16,383 pixels a side and its decoder refuses cut files.
    """
    if data[:2] == b"\xff\xd8":
        return _jpeg(data)
    if data[:8] == b"\x89PNG\r\n\x1a\n" and len(data) >= 24:
        width, height = _big(data[16:20]), _big(data[20:24])
        return Header(width, height, complete=data.rfind(_PNG_END) >= 0)
    if data[:2] == b"BM" and len(data) >= 26 and data[14] >= _BMP_HEADER:
        width = int.from_bytes(data[18:22], "little", signed=True)
        height = int.from_bytes(data[22:26], "little", signed=True)
        size = int.from_bytes(data[2:6], "little")
        return Header(abs(width), abs(height), complete=len(data) >= size)
    return None


def _big(field: bytes) -> int:
    return int.from_bytes(field, "big")


def _jpeg(data: bytes) -> Optional[Header]:
    """Walk the segments up to the first scan (ISO/IEC 10918-1, annex B).

    Within a scan 0xFF is escaped, so FF D9 behind its start can only be the end of the image; a
    thumbnail's own end marker lies before it, inside a segment that is stepped over.
    """
    size, position = None, 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker, length = data[position + 1], _big(data[position + 2 : position + 4])
        if marker == 0xFF:  # padding
            position += 1
            continue
        if marker in _START_OF_FRAME:
            size = _big(data[position + 7 : position + 9]), _big(data[position + 5 : position + 7])
        if marker == _START_OF_SCAN and size:
            return Header(*size, complete=data.find(b"\xff\xd9", position) >= 0)
        position += 2 + length
    return Header(*size, complete=False) if size else None
