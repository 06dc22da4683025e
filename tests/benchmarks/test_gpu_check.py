"""The command for GPU machines, where there is no GPU: each step fails alone, and says why."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import gpu_check, gpu_verdicts
from gender_edge import BackendError, GenderEdgeError
from gender_edge.backends import cuda, tensorrt_api
from tests.conftest import ROOT


def test_without_a_gpu_every_step_fails_in_its_own_process(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    try:
        cuda.open_device()
    except BackendError:
        pass
    else:
        pytest.skip("a GPU is here")
    argv = ["--out", str(tmp_path), "--steps", "environment,overhead"]
    assert gpu_check.main(argv) == 2
    found = json.loads((tmp_path / gpu_check.NOTES).read_text())
    assert set(found) == {"environment", "overhead"}
    assert all("its process ended with 1" in row["error"] for row in found.values())
    printed = capfd.readouterr()
    assert "no engine was built" in printed.err and "failed: environment, overhead" in printed.out
    with pytest.raises(SystemExit):
        gpu_check.main(["--steps", "nonsense"])


def _runs(process: int) -> bool:
    try:
        return "zombie" not in Path(f"/proc/{process}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_step_that_hangs_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    """In time for the next one, and what it did is kept."""
    child = tmp_path / "child"
    command = ["sh", "-c", f"sleep 600 & echo $! > {child}; wait"]
    assert "not finished after 1 s" in gpu_check._ended(command, 1)
    for _ in range(100):  # it is told to end, and does when it is its turn
        if not _runs(int(child.read_text())):
            break
        time.sleep(0.1)
    else:
        pytest.fail("it goes on")
    assert gpu_check._ended([sys.executable, "-c", ""], 60) == ""
    assert gpu_check._ended([sys.executable, "-c", "raise SystemExit(3)"], 60).endswith("with 3")


def test_tests_are_of_the_models_that_were_asked_for() -> None:
    command = [sys.executable, "-m", "pytest", "tests/gpu", "--collect-only", "-q", "-m", "gpu"]
    environment = {**os.environ, "GENDER_EDGE_MODELS": "slim_int8"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert "[slim_int8" in done.stdout and "nano_gray" not in done.stdout, done.stderr


def test_rows_are_kept_one_by_one_and_not_measured_again(tmp_path: Path) -> None:
    asked = []

    def measure(name: str) -> dict[str, int]:
        asked.append(name)
        if name == "b" and asked.count("b") == 1:
            raise ValueError("broken")
        if name == "c":
            assert "b" in json.loads((tmp_path / gpu_check.NOTES).read_text())["step"]
        return {"value": 1}

    gpu_check.Notes(tmp_path).rows("step", "abc", measure)
    notes = gpu_check.Notes(tmp_path)
    assert gpu_check.failures(notes.found["step"]) == ["ValueError: broken"]
    notes.rows("step", "abc", measure)
    assert asked == ["a", "b", "c", "b"] and gpu_check.failures(notes.found["step"]) == []
    assert gpu_check.failures({"a": {"status": 1}, "b": {"status": 0}}) == ["status 1"]


def test_a_file_that_is_gone_is_made_again(tmp_path: Path) -> None:
    """Engines stay on the machine that built them; notes come back from it."""
    made: list[str] = []

    def measure(name: str) -> dict[str, str]:
        made.append(name)
        return {"path": str(tmp_path / name)}

    notes = gpu_check.Notes(tmp_path)
    notes.rows("build", "ab", measure)
    (tmp_path / "a").touch()
    notes.rows("build", "ab", measure)
    assert made == ["a", "b", "b"]


def test_figures_of_two_machines_never_mix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = SimpleNamespace(name="H200", capability="9.0", memory=1, driver_version=1)
    api = SimpleNamespace(name="tensorrt", version="8.6.1")
    monkeypatch.setattr(cuda, "open_device", lambda: gpu)
    monkeypatch.setattr(tensorrt_api, "load", lambda: api)
    notes = gpu_check.Notes(tmp_path)
    notes.found = {
        "environment": {"gpu": "H100", "tensorrt": ["tensorrt", "8.6.1"]},
        "parity": {"slim_int8": {"faces": 3}},
    }
    notes.write()
    argv = [f"--out={tmp_path}", "--step=environment"]
    with pytest.raises(GenderEdgeError, match="is of gpu H100, here is H200: give another --out"):
        gpu_check.main([*argv, "--resume"])
    assert gpu_check.main(argv) == 0
    notes.read()
    assert list(notes.found) == ["environment"] and notes.found["environment"]["gpu"] == "H200"
    assert gpu_check.main([*argv, "--resume"]) == 0
    with pytest.raises(GenderEdgeError, match="is of max_batch 64, here is 8"):
        gpu_check.main([*argv, "--resume", "--max-batch", "8"])
    notes.found["environment"]["models"] = {"slim_int8": "another"}
    notes.write()
    with pytest.raises(GenderEdgeError, match="is of models"):
        gpu_check.main([*argv, "--resume"])


def test_verdicts(tmp_path: Path) -> None:
    rates = {"resident_share": 0.97, "host_share": 0.5}
    row = {"batch": 1, "p50_ms": 1.0, "p99_ms": 3.0}
    variants = [{"name": "slim_int8", "batches": [row, {**row, "batch": 8}]}]
    (tmp_path / "a.json").write_text(json.dumps({"variants": variants}))
    found = gpu_verdicts.of(
        {
            "parity": {"slim_int8": {"accuracy_difference": -0.002}, "x": {"error": "broken"}},
            "overhead": {
                "slim_int8": {**rates, "graph_faces_per_s": 300.0},
                "slim_fp16": {**rates, "graph_faces_per_s": 200.0},
            },
            "benchmark": {
                "a": {"device": "tensorrt", "file": "a.json", "status": 0},
                "b": {"device": "onnxruntime", "file": "none.json", "status": 0},
                "c": {"device": "tensorrt", "file": "never.json", "status": 2},
            },
            "pytorch": {
                "slim_int8": {"rows": [{}, {"eager": 50.0, "compile": None}], "peaks": {}},
                "slim_fp32": {"rows": [{"eager": 50.0}], "peaks": {}},
                "vgg16_int8": {"rows": [{"eager": 9.0}], "peaks": {"fp16_ops": 1e12}},
                "error": "its process ended with 1",
            },
        },
        tmp_path,
    )
    met = {name: row.get("met") for name, row in found.items()}
    assert met == {
        "slim_int8: accuracy": False,
        "slim_int8: resident": True,
        "slim_int8: from host": False,
        "slim_fp16: resident": True,
        "slim_fp16: from host": False,
        "slim_int8: p99 to p50": False,
        "slim_int8: to eager": True,
        "slim_fp16: to eager": True,
        "slim_fp16: of fp16_gmacs": None,
        "slim_int8: to fp16": None,
    }
    assert found["slim_int8: to eager"]["value"] == 6.0
    assert found["slim_int8: to fp16"]["value"] == 1.5


def test_peaks_are_the_best_that_was_reached() -> None:
    rows = {
        "a": {"peaks": {"fp16_ops": 4e14, "upload_bytes": 2e10, "memory_bytes": 1e12}},
        "b": {"peaks": {"fp16_ops": 6e14, "int8_ops": 1e15, "upload_bytes": 1e10}},
        "c": {"error": "broken"},
    }
    found = {"fp16_gmacs": 3e5, "int8_gmacs": 5e5, "upload_gb_s": 20.0}
    assert gpu_verdicts.peaks(rows) == pytest.approx(found)
    assert gpu_verdicts.peaks({}) == {}
