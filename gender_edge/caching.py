"""The folder of what was built or compiled here, and how files get into it."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from .errors import BackendError

CACHE_VARIABLE = "GENDER_EDGE_CACHE"


def cache_folder() -> Path:
    """Where engines built here are kept: $GENDER_EDGE_CACHE, else the user's cache folder.

    Raises:
        BackendError: the user has none.
    """
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "gender_edge"
    except (RuntimeError, KeyError) as error:  # the latter on Python 3.9
        raise BackendError(
            f"no folder for the cache ({error}); name one in {CACHE_VARIABLE}"
        ) from error


def made(folder: Path) -> Path:
    """A folder, made if it is not there.

    Raises:
        BackendError: it cannot be.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BackendError(
            f"{folder}: cannot be made ({error.strerror}); name a folder that can be written to, "
            f"for the cache in {CACHE_VARIABLE}"
        ) from error
    return folder


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let one process build a file while others wait for it.

    Raises:
        BackendError: the cache's folder cannot be written to.
    """
    try:
        import fcntl
    except ImportError:  # Windows: builds may repeat, and the last whole file stays
        yield
        return
    name = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:16]
    place = made(cache_folder() / "locks") / name
    try:
        lock = place.open("w")
    except OSError as error:
        raise _unwritable(place, error) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all.

    Raises:
        BackendError: it cannot be written.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> BackendError:
    return BackendError(
        f"{path}: cannot be written ({error.strerror}); make room there, or name a folder that can "
        f"be written to, for the cache in {CACHE_VARIABLE}"
    )
