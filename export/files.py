"""Files that steps make: whole or not there, and anew when what they are made from is newer."""

from __future__ import annotations

import hashlib
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BLOCK = 1 << 20  # bytes


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A file, or folder, to write beside the target, which it replaces when it is whole; in a
    folder that is made if it is not there.

    Its name is nobody else's, so that two processes can write one file: the later one stays. What a
    killed process leaves lies there as partial-*.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"partial-{uuid.uuid4().hex[:8]}-{target.name}")
    try:
        yield partial
        partial.replace(target)
    finally:
        if partial.is_dir():
            shutil.rmtree(partial)
        else:
            partial.unlink(missing_ok=True)


def fresh(output: Path, *inputs: Path) -> bool:
    """Whether a file is there and newer than all that it is made from."""
    made = output.stat().st_mtime if output.exists() else 0.0
    return made > max(i.stat().st_mtime for i in inputs)


def digest(file: Path) -> str:
    """SHA-256 of a file, hexadecimal; of any size."""
    found = hashlib.sha256()
    with file.open("rb") as content:
        while block := content.read(BLOCK):
            found.update(block)
    return found.hexdigest()


def write(target: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with replacing(target) as partial:
        partial.write_text(text)
