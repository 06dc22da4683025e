from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest

from export import graph
from gender_edge import Classifier
from tests.conftest import ROOT

SHIPPED = ROOT / "models" / "nano_gray_int8" / "model.onnx"


def test_without_git_the_revision_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert graph.revision() == "unknown"


class InterruptionError(Exception):
    pass


def test_a_file_cut_short_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(model: Any, path: Path) -> None:
        path.write_bytes(b"half")
        raise InterruptionError

    with Classifier(SHIPPED, device="onnxruntime") as classifier:
        spec = classifier.spec
    target = tmp_path / "model.onnx"
    monkeypatch.setattr(onnx, "save", cut)
    with pytest.raises(InterruptionError):
        graph.write_spec(SHIPPED, spec, target)
    assert not target.exists()
