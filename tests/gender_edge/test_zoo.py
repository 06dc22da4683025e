from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from gender_edge import Classifier, ModelError, doctor, zoo


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the default model with its registry, in the place of what is shipped."""
    home = tmp_path / "models"
    shutil.copytree(zoo.folder() / zoo.default(), home / zoo.default())
    shutil.copy(zoo.folder() / zoo.REGISTRY, home)
    monkeypatch.setattr(zoo, "folder", lambda: home)
    zoo._registry.cache_clear()
    yield home
    zoo._registry.cache_clear()


@pytest.mark.parametrize("content", [None, "{", "[]", "1", "{}"])
def test_a_damaged_evaluation_stops_only_who_asks_for_it(models: Path, content: str | None) -> None:
    file = models / zoo.default() / "evaluation.json"
    file.unlink() if content is None else file.write_text(content)
    with Classifier(zoo.default(), device="onnxruntime") as classifier:
        assert classifier.name == zoo.default()
    with pytest.raises(ModelError, match=r"evaluation\.json.*install gender_edge again"):
        _ = zoo.entry(zoo.default()).accuracy


def test_a_registry_without_its_keys(models: Path) -> None:
    for missing in ("default", "models"):
        registry = json.loads((models / zoo.REGISTRY).read_text())
        del registry[missing]
        (models / zoo.REGISTRY).write_text(json.dumps(registry))
        zoo._registry.cache_clear()
        with pytest.raises(ModelError, match=f"has no .*{missing}"):
            zoo.default()
    assert (
        "has no default, models" in doctor.examine()["shipped models"][0]
    )  # which looks for such damage
