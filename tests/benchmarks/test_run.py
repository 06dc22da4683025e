from __future__ import annotations

import ctypes
import json
import shlex
import shutil
import subprocess
from copy import deepcopy
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from benchmarks import captions, derived, figures, machine, memory, page, probe, storage
from benchmarks import run as benchmark
from benchmarks.run import main
from benchmarks.subjects import Variant
from gender_edge import BackendError, host, zoo
from gender_edge.backends import cuda


def test_figures_are_there_and_make_sense(result: dict[str, Any]) -> None:
    assert result["machine"]["cores"] >= 1
    assert all(value > 0 for value in result["machine"]["peaks"].values())
    for variant in result["variants"]:
        assert [row["batch"] for row in variant["batches"]] == [1, 3]
        for row in variant["batches"]:
            assert 0 < row["p50_ms"] <= row["p90_ms"] <= row["p99_ms"]
            assert row["faces_per_s"] > 0 and row["runs"] >= 10
            low, high = row["interval"]["p50_ms"]
            assert low <= row["p50_ms"] <= high
            memory_mb = row["resident_mb"]
            assert 5 < memory_mb["python"] < memory_mb["import"] < memory_mb["load"]
            assert memory_mb["load"] <= memory_mb["peak"]
            assert row["roofline"] > 0
        assert variant["paced"]["fps"] == 50 and variant["paced"]["cores"] > 0
        assert variant["cameras"]["faces"] == 128
        recorded = zoo.entry(variant["name"])
        assert variant["bytes"] == recorded.bytes
        accuracy = variant["accuracy"]
        assert not accuracy["measured"] and accuracy["value"] == recorded.accuracy["value"]
        assert accuracy["low"] < accuracy["value"] < accuracy["high"]
        assert set(accuracy["sets"]) == set(recorded.evaluation["sets"])


DRIVER = """
#include <stdio.h>
int cuInit(unsigned flags) { return 0; }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return ordinal ? 101 : 0; }
int cuDeviceGetName(char *name, int size, int device) {
    snprintf(name, size, "Some GPU, %d", device); return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    *value = attribute == 75 ? 9 : attribute == 76 ? 1 : -1; return 0; }
int cuDriverGetVersion(int *version) { *version = 12080; return 0; }
int cuGetErrorName(int error, const char **name) {
    *name = "CUDA_ERROR_INVALID_DEVICE"; return error != 101; }
"""


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that answers as the CUDA driver does: there is no GPU where these tests run."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler for a stand-in for the CUDA driver")
    (tmp_path / "driver.c").write_text(DRIVER)
    library = tmp_path / "driver.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, tmp_path / "driver.c"], check=True)
    loaded = ctypes.CDLL(str(library))
    monkeypatch.setattr(cuda, "_library", lambda: loaded)


@pytest.mark.usefixtures("driver")
def test_a_gpu_is_named(result: dict[str, Any], tmp_path: Path) -> None:
    """Of rows that ran there, in every title and caption; the processor's rows name that."""
    own = result["machine"]
    cpu = f"{host.titled(own['cpu'], own['features'])}, {own['cores']} cores"
    assert " On a GPU: not measured." in captions.caption(result) and f"on {cpu}<" in page.html(
        result
    )
    result = deepcopy(result)
    for name, provider, row in zip(
        ("onnxruntime 1.22.0", "tensorrt 10.9.0"),
        ("CUDAExecutionProvider", "Some GPU, 0"),
        result["variants"],
    ):
        variant = Variant(row["name"], "cpu", None, 1)
        assert variant.facts()["gpu"] is None
        engine = variant.classifier._backend
        engine.name, engine.provider = name, provider
        row.update(variant.facts())
    derived.update(result)
    assert all(row["roofline"] is None for v in result["variants"] for row in v["batches"])
    said = "On Some GPU, 0 (compute capability 9.1, driver for CUDA 12.8): onnxruntime 1.22.0, "
    assert said + "tensorrt 10.9.0. The clock" in captions.caption(result)
    assert "on Some GPU, 0<" in page.html(result)
    target = tmp_path / "a.json"
    target.write_text(json.dumps(result))
    peaks = {f"{kind}_gmacs": 5e5 for kind in ("fp16", "int8")}
    storage.note_gpu_peaks(target, {**peaks, "upload_gb_s": 25.0})
    noted = json.loads(target.read_text())
    assert "500000 GMAC/s in INT8, of PyTorch's" in captions.caption(noted)
    shares = {v["precision"]: v["batches"][0]["roofline"] for v in noted["variants"]}
    assert shares["int8"] > 0
    figure = figures.front(result, "latency", ["onnxruntime cuda", "tensorrt"])
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["Some GPU, 0, onnxruntime cuda", "Some GPU, 0, tensorrt"]
    result["variants"][0]["gpu"] = None
    assert f"on {cpu} and Some GPU, 0<" in page.html(result)
    with pytest.raises(BackendError, match="CUDA_ERROR_INVALID_DEVICE"):
        cuda.identify(1)


def test_every_device_is_a_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("openvino")
    argv = [zoo.default(), "--batches=1", "--seconds=0.05", "--device=onnxruntime,openvino,tpu"]
    assert main([*argv, f"--plot={tmp_path / 'a.png'}"]) == 1
    out = capsys.readouterr().out
    found = json.loads(out.splitlines()[-1])["variants"]
    assert [v["engine"] for v in found] == ["onnxruntime", "openvino", "tpu"]
    assert "expected one of" in found[2]["error"]
    table = [line for line in out.splitlines() if line.startswith(zoo.default())]
    assert len(table) == 6  # three of speed, one of accuracy, two of memory


def test_last_line_is_json(
    face: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tmp_path = tmp_path / "my faces"
    tmp_path.mkdir()
    for label in ("female", "male"):
        (tmp_path / label).mkdir()
        cv2.imwrite(str(tmp_path / label / "a.png"), face)
    path = str(zoo.entry(zoo.default()).path)
    argv = [path, "no_such_model", "--device=auto", "--batches=1", "--seconds=0.05"]
    argv += [f"--data={tmp_path}"]
    assert main([*argv, "--one-by-one", "--clock=decode"]) == 1
    out = capsys.readouterr().out
    found = json.loads(out.splitlines()[-1])
    assert shlex.split(found["command"])[2:] == [*argv, "--one-by-one", "--clock=decode"]
    assert "(2 faces: 2 as whole pictures), measured" in found["accuracy_note"]
    good, bad = found["variants"]
    assert good["accuracy"]["measured"] and good["accuracy"]["value"] == 0.5
    assert good["accuracy"]["sets"][tmp_path.name]["n"] == 2
    assert "no shipped model 'no_such_model'" in bad["error"]
    assert "(recorded)" not in out


def test_a_run_is_written_before_it_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "a.md"

    def failing(_: object) -> None:
        assert out.exists()
        raise KeyboardInterrupt

    monkeypatch.setattr(benchmark.records, "record", failing)
    with pytest.raises(KeyboardInterrupt):
        main(["no_such_model", "--batches=1", "--record", f"--markdown={out}"])


def test_nothing_to_measure_is_still_a_result(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a.json"
    assert main(["no_such_model", "--batches=1", f"--json={out}"]) == 1
    printed = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert "no shipped model" in printed["variants"][0]["error"]
    assert json.loads(out.read_text())["variants"] == printed["variants"]


def test_an_interrupted_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was measured before the interruption is kept and not measured again."""
    out = tmp_path / "a.json"
    argv = [zoo.default(), "--device=onnxruntime", "--batches=1", "--seconds=0.1", "--rounds=3"]
    argv += [f"--json={out}"]
    measured, stop = [], [2]
    proper = benchmark._round

    def counting(row: Any, process: Any, arguments: Any, number: int) -> None:
        if len(measured) == stop[0]:
            raise KeyboardInterrupt
        before = len(row["rounds"].get("1", ()))
        proper(row, process, arguments, number)
        measured.extend(row["rounds"]["1"][before:])

    monkeypatch.setattr(benchmark, "_round", counting)
    assert main(argv) == 130
    kept = json.loads(out.read_text())["variants"][0]["rounds"]["1"]
    assert kept == measured and len(kept) == 2
    assert main([*argv, "--resume", "--threads=1"]) == 2
    assert "made with other threads" in capsys.readouterr().err
    stop[0] = -1
    assert main([*argv, "--resume"]) == 0
    done = json.loads(out.read_text())["variants"][0]
    assert done["rounds"]["1"][:2] == kept and len(done["rounds"]["1"]) == 3 == len(measured)
    changed = json.loads(out.read_text())
    changed["variants"][0]["sha256"] = "of another file"
    out.write_text(json.dumps(changed))
    assert main([*argv, "--resume"]) == 0
    anew = json.loads(out.read_text())["variants"][0]
    assert anew["rounds"]["1"] == measured[3:] and len(measured) == 6


def test_unreadable_data_is_said_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", "/nowhere"]) == 2
    assert "no such file or folder" in capsys.readouterr().err
    for argv in (["--batches", "1,x"], ["--resume"], ["--cameras", "0x1"]):
        with pytest.raises(SystemExit):
            main(argv)
    for option in ("--rounds=-1", "--rounds=0", "--seconds=0", "--seconds=nan", "--threads=0"):
        with pytest.raises(SystemExit):
            main([option])
        assert "expected a" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("operator", "kinds", "stored"),
    [
        ("MatMul", ("FLOAT", "FLOAT", "FLOAT"), probe.MATMUL),
        ("MatMulInteger", ("UINT8", "INT8", "INT32"), probe.MATMUL_INTEGER),
    ],
)
def test_a_probe_is_one_product(operator: str, kinds: tuple[str, ...], stored: bytes) -> None:
    onnx = pytest.importorskip("onnx", reason="the runtime does not install it")
    make = onnx.helper
    names, shapes = ("left", "right", "product"), (["M", "K"], ["K", "N"], ["M", "N"])
    ends = [
        make.make_tensor_value_info(name, getattr(onnx.TensorProto, kind), shape)
        for name, kind, shape in zip(names, kinds, shapes)
    ]
    node = make.make_node(operator, names[:2], names[2:])
    graph = make.make_graph([node], "g", ends[:2], ends[2:])
    version = [make.make_opsetid("", 17)]
    model = make.make_model(graph, opset_imports=version, ir_version=8)
    assert model.SerializeToString() == stored


def test_a_row_is_compared_with_the_peak_of_its_precision() -> None:
    """Or with that of memory, if that binds it; of other clocks than the network's with none."""
    result: dict[str, Any] = {
        "machine": {"peaks": {"gemm_gmacs": 100.0, "int8_gmacs": 400.0, "copy_gb_s": 10.0}},
        "settings": {"clock": "network", "data": None},
        "variants": [],
    }
    timed = dict.fromkeys(("p50_ms", "p90_ms", "p99_ms", "faces_per_s"), 1.0)
    for precision, macs, size in (("fp32", 5e7, 10), ("int8", 5e7, 10), ("int8", 1, 5_000_000)):
        facts = {"precision": precision, "macs": macs, "bytes": size, "input_size": 10}
        row = {"gpu": None, "rounds": {"1": [{**timed, "runs": 1}]}, **facts}
        result["variants"].append(row)
    derived.update(result)
    found = [v["batches"][0]["roofline"] for v in result["variants"]]
    assert found == pytest.approx([0.5, 0.125, 0.5], rel=1e-3)
    for row in result["variants"]:
        row["gpu"] = {"name": "a GPU"}
    derived.update(result)
    assert all(v["batches"][0]["roofline"] is None for v in result["variants"])
    result["machine"]["gpu_peaks"] = {"int8_gmacs": 200.0, "upload_gb_s": 0.001}
    derived.update(result)
    found = [v["batches"][0]["roofline"] for v in result["variants"]]
    # FP32 has no peak; what the weights weigh does not matter, they are on the GPU already.
    assert found == [None, pytest.approx(0.3), pytest.approx(0.3)]
    result["settings"]["clock"] = "crop"
    derived.update(result)
    assert all(v["batches"][0]["roofline"] is None for v in result["variants"])


def test_a_damaged_result_is_not_gone_on_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.json").write_text('{"machine": ')
    assert main([zoo.default(), "--resume", f"--json={tmp_path / 'a.json'}"]) == 2
    assert "no result of benchmarks/run.py" in capsys.readouterr().err


def test_memory_is_the_process_own() -> None:
    now, peak = memory.resident_mb()
    block = np.ones(200_000_000, np.uint8)  # other threads may free some meanwhile
    more, more_peak = memory.resident_mb()
    assert more - now > 100 and more_peak >= peak
    del block
    assert memory.resident_mb()[1] >= more_peak - 1  # the kernel counts in batches


def test_slug_is_a_file_name() -> None:
    name = machine.slug(machine.describe())
    assert name == Path(name).name and " " not in name and "onnxruntime" in name
    there = {"cpu": "AMD EPYC", "cores": 2, "packages": {"onnxruntime": "1.32.0"}}
    names = {machine.slug({**there, "features": own}) for own in (["avx2"], ["avx2", "amx_int8"])}
    assert names == {f"amd-epyc-{own}-2core-onnxruntime1.32.0" for own in ("avx2", "amx-int8")}
    named = machine.gpu_slug("NVIDIA H100 80GB HBM3", "tensorrt 8.6.1")
    assert named == "nvidia-h100-80gb-hbm3-trt8.6.1"
