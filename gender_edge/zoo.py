"""The shipped models: names to files, checksums and what was recorded when they were made."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Optional

from .errors import ModelError
from .measures import mean

REGISTRY = "registry.json"
MODEL, EVALUATION, CARD = "model.onnx", "evaluation.json", "card.md"  # of each shipped model


@dataclass(frozen=True)
class Entry:
    """One shipped model.

    Attributes:
        path: its ONNX file.
        sha256: of that file, as the registry has it.
        bytes: its size.
    """

    name: str
    path: Path
    sha256: str
    bytes: int

    @cached_property
    def evaluation(self) -> Mapping[str, Any]:
        """What `evaluation.json` beside it holds: spec and test results by set.

        Raises:
            ModelError: it is missing or damaged.
        """
        return _json(self.path.with_name(EVALUATION), "spec", "sets")

    @property
    def accuracy(self) -> dict[str, float]:
        """Mean over the test sets of the recorded balanced accuracy: value, low, high, 0 to 1."""
        return self.accuracy_on(self.evaluation["sets"])

    def accuracy_on(self, names: Iterable[str]) -> dict[str, float]:
        """The mean over the named test sets only, so that models tested on others can be compared.

        Raises:
            ModelError: it was not tested on all of them.
        """
        sets, names = self.evaluation["sets"], list(names)
        if missing := [name for name in names if name not in sets]:
            raise ModelError(
                f"{self.name}: tested on {', '.join(sets)} and not on {', '.join(missing)}, so its "
                "accuracy does not compare with the default model's; evaluate it there"
            )
        return mean([sets[name]["balanced_accuracy"] for name in names])


def folder() -> Path:
    """Where the models lie: inside the installed package, or beside it in a source tree."""
    inside = Path(__file__).parent / "models"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "models"


@lru_cache(maxsize=1)
def _registry() -> dict[str, Any]:
    return _json(folder() / REGISTRY, "default", "models")


def _json(path: Path, *keys: str) -> dict[str, Any]:
    """What is kept about shipped models: an object that has these keys at least."""
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        missing = [key for key in keys if key not in content]
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(f"{path}: cannot be read ({error}); install gender_edge again") from error
    if missing:
        raise ModelError(f"{path}: has no {', '.join(missing)}; install gender_edge again")
    return content


def names() -> list[str]:
    """Names of all shipped models, as in the registry."""
    return list(_registry()["models"])


def default(precision: str = "int8") -> str:
    """The model that `Classifier()` opens; in another precision, if it is shipped in that too."""
    registry = _registry()
    name = str(registry["default"])
    twin = f"{name.rpartition('_')[0]}_{precision}"
    return twin if twin in registry["models"] else name


def entry(name: str) -> Entry:
    """A shipped model by name.

    Raises:
        ModelError: there is none of that name.
    """
    record = _registry()["models"].get(name)
    if record is None:
        raise ModelError(
            f"no shipped model {name!r}; there are {', '.join(names())}, or give the path of a file"
        )
    return Entry(name, folder() / name / MODEL, record["sha256"], record["bytes"])


def read(model: str) -> bytes:
    """Content of a model, given a shipped name or a path (which has a suffix or a slash).

    Raises:
        ModelError: not found, unreadable, or a shipped file whose checksum does not fit.
    """
    if Path(model).suffix or "/" in model or os.sep in model:
        return _content(Path(model))
    shipped = entry(model)
    return _checked(shipped.path, shipped.sha256)


def detector() -> Optional[tuple[bytes, str]]:
    """Content and path of the shipped face detector; None where none is shipped.

    Raises:
        ModelError: unreadable, or its checksum does not fit.
    """
    found = next(iter(detectors().items()), None)
    if found is None:
        return None
    name, record = found
    path = folder() / name / MODEL
    return _checked(path, record["sha256"]), str(path)


def detectors() -> dict[str, Any]:
    """The registry's entries of shipped face detectors, by name."""
    return dict(_registry().get("detectors", {}))


def _checked(path: Path, sha256: str) -> bytes:
    content = _content(path)
    digest = hashlib.sha256(content).hexdigest()
    if digest != sha256:
        raise ModelError(
            f"{path}: sha256 {digest}, expected {sha256}; the file is damaged or was changed: "
            "install gender_edge again"
        )
    return content


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise ModelError(
            f"{path}: no such model file; shipped names are {', '.join(names())}"
        ) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the path
        raise ModelError(f"{path!s}: cannot be read ({error}); check the path") from error
