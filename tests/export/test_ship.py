from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from export.ship import ship


def test_ship_opens_a_classifier_by_default(tmp_path: Path) -> None:
    """Never a detector; the first classifier, and later ones only if they shall be."""

    def shipped(name: str, **options: Any) -> Any:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "evaluation.json").write_text(json.dumps({"spec": {"name": name}}))
        (folder / "model.onnx").write_text(name)
        (folder / "card.md").write_text("")
        assert ship(folder, tmp_path / "models", **options) == name
        return json.loads((tmp_path / "models" / "registry.json").read_text())["default"]

    assert shipped("spotter", section="detectors") is None
    assert [shipped("a"), shipped("b"), shipped("c", default=True)] == ["a", "a", "c"]
    assert shipped("other", section="detectors") == "c"
