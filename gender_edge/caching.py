"""The folder of what was built or compiled here, and how files get into it."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

CACHE_VARIABLE = "GENDER_EDGE_CACHE"


def cache_folder() -> Path:
    """Where engines built here are kept: $GENDER_EDGE_CACHE, else the user's cache folder."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "gender_edge"


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let one process build a file while others wait for it."""
    try:
        import fcntl
    except ImportError:  # Windows: builds may repeat, and the last whole file stays
        yield
        return
    locks = cache_folder() / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    with (locks / hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:16]).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.write_bytes(content)
    partial.replace(path)
