from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.run import main
from gender_edge import zoo

FORMATS = {"json": "a.json", "markdown": "a.md", "csv": "a.csv", "plot": "a.png", "html": "a.html"}


@pytest.fixture(scope="session")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("out")
    argv = [
        zoo.default(),
        zoo.names()[-1],
        "--device=auto",
        "--batches",
        "1,3",
        "--seconds",
        "0.1",
        "--rounds",
        "2",
    ]
    argv += ["--pace", "50", "--cameras", "30x128"]
    argv += [*(f"--{kind}={folder / name}" for kind, name in FORMATS.items())]
    assert main(argv) == 0
    return folder


@pytest.fixture(scope="session")
def result(outputs: Path) -> dict[str, Any]:
    return json.loads((outputs / "a.json").read_text())
