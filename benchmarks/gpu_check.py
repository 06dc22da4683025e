"""Everything that wants a GPU, in one command: build, parity, tests, benchmark.

    python -m benchmarks.gpu_check --out FOLDER [--data LIST]

Each step writes what it found before the next begins, and a step that fails is a row with its
reason: a first run on a new kind of machine costs no result. The benchmark goes to
FOLDER/GPU-trtVERSION.json, the CPU's beside it, the rest to FOLDER/gpu-check.json.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any, Callable

import numpy as np

from benchmarks import gpu_overhead, machine, run
from benchmarks.processes import ROOT
from gender_edge import Classifier, build_engine, engines, evaluation, zoo
from gender_edge.backends import cuda, tensorrt_api
from gender_edge.labelled import read_labelled

RANDOM_CROPS = 256


def main(argv: list[str] | None = None) -> int:
    """Run all steps; returns how many failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--data", help="labelled list for parity and accuracy on real faces")
    parser.add_argument("--max-batch", type=int, default=64)
    parser.add_argument(
        "--torch-python",
        default=sys.executable,
        help="a Python with torch and onnx, to compare with",
    )
    arguments = parser.parse_args(argv)
    arguments.out.mkdir(parents=True, exist_ok=True)
    findings: dict[str, Any] = {}
    steps: list[tuple[str, Callable[[argparse.Namespace, dict[str, Any]], Any]]] = [
        ("environment", _environment),
        ("build", _build),
        ("parity", _parity),
        ("overhead", _overhead),
        ("pytorch", _pytorch),
        ("tests", _tests),
        ("benchmark", _benchmark),
    ]
    failed = 0
    for name, step in steps:
        began = time.perf_counter()
        try:
            findings[name] = step(arguments, findings)
        except (Exception, SystemExit) as error:  # whatever it is, the next step still runs
            failed += 1
            findings[name] = {"error": f"{type(error).__name__}: {error}"}
            traceback.print_exc()
        print(f"{name}: {time.perf_counter() - began:.1f} s\n{json.dumps(findings[name])[:2000]}")
        (arguments.out / "gpu-check.json").write_text(json.dumps(findings, indent=1) + "\n")
    return failed


def _environment(_: argparse.Namespace, __: dict[str, Any]) -> dict[str, Any]:
    device, api = cuda.open_device(), tensorrt_api.load()
    return {
        **machine.describe(),
        "gpu": device.name,
        "compute_capability": device.capability,
        "gpu_memory_gb": round(device.memory / 1e9, 1),
        "driver_cuda": device.driver_version,
        "tensorrt": [api.name, api.version],
    }


def _build(arguments: argparse.Namespace, _: dict[str, Any]) -> dict[str, Any]:
    """Every shipped model to an engine in the cache."""
    rows: dict[str, Any] = {}
    for name in zoo.names():
        began = time.perf_counter()
        try:
            path = build_engine(name, max_batch=arguments.max_batch)
            rows[name] = {"seconds": time.perf_counter() - began, "bytes": path.stat().st_size}
        except Exception as error:  # one model must not cost the others
            rows[name] = {"error": f"{type(error).__name__}: {error}"}
    return rows


def _parity(arguments: argparse.Namespace, findings: dict[str, Any]) -> dict[str, Any]:
    """Probabilities and decisions of each engine against ONNX Runtime's on the CPU."""
    samples = read_labelled(arguments.data) if arguments.data else None
    rows: dict[str, Any] = {}
    for name in (n for n, row in findings["build"].items() if "error" not in row):
        pair = []
        for device in ("tensorrt", "onnxruntime"):
            with Classifier(name, device=device) as classifier:
                pair.append(_female(classifier, samples))
        difference = np.abs(pair[0] - pair[1])
        rows[name] = {
            "faces": len(difference),
            "real": samples is not None,
            "mean_difference": float(difference.mean()),
            "largest_difference": float(difference.max()),
            "same_decision": float(((pair[0] >= 0.5) == (pair[1] >= 0.5)).mean()),
        }
    return rows


def _female(classifier: Classifier, samples: Any) -> np.ndarray:
    if samples is not None:
        return evaluation.classify(classifier, samples).female
    side = classifier.spec.input_size
    crops = np.random.default_rng(0).integers(0, 256, (RANDOM_CROPS, side, side, 3), np.uint8)
    return np.array([p.female for p in classifier.predict(crops)])


def _overhead(arguments: argparse.Namespace, findings: dict[str, Any]) -> dict[str, Any]:
    """What `Classifier` costs beside the bare engine, and how near it comes to the bus."""
    rows: dict[str, Any] = {}
    for name in (n for n, row in findings["build"].items() if "error" not in row):
        try:
            rows[name] = gpu_overhead.measure(engines.find(name), arguments.max_batch)
        except Exception as error:  # one model must not cost the others
            rows[name] = {"error": f"{type(error).__name__}: {error}"}
    return rows


def _pytorch(arguments: argparse.Namespace, findings: dict[str, Any]) -> dict[str, Any]:
    """The same networks in PyTorch FP16, and the machine's peaks, then distances to both."""
    paths = {str(zoo.entry(name).path): name for name in zoo.names()}
    command = [arguments.torch_python, "-m", "benchmarks.torch_reference", *paths]
    command += ["--batches", f"1,{arguments.max_batch}"]
    environment = dict(os.environ)
    if arguments.torch_python != sys.executable:  # it shall find its own packages and libraries
        for name in ("PYTHONPATH", "PYTHONHOME", "PYTHONNOUSERSITE", "LD_LIBRARY_PATH"):
            environment.pop(name, None)
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, env=environment
    )
    (arguments.out / "torch-reference.txt").write_text(done.stdout + done.stderr)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1:])
    found = json.loads(done.stdout.splitlines()[-1])
    peaks, compared = found["peaks"], {}
    for path, rows in found.pop("models").items():
        engine = findings["overhead"].get(paths[path], {})
        faces, large = engine.get("bare_faces_per_s"), rows[-1]
        compared[paths[path]] = {"rows": rows}
        if faces:
            macs = zoo.entry(paths[path]).evaluation["spec"]["macs"]
            compared[paths[path]]["engine_to"] = {
                **{k: faces / large[k] for k in ("eager", "compile") if large.get(k)},
                **{k: 2 * macs * faces / peaks[k] for k in ("fp16_ops", "int8_ops") if k in peaks},
            }
    return {**found, "models": compared}


def _tests(arguments: argparse.Namespace, _: dict[str, Any]) -> dict[str, Any]:
    if importlib.util.find_spec("pytest") is None:
        return {"error": "pytest is not here"}
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "tests/gpu", "-q", "--tb=short"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    (arguments.out / "gpu-tests.txt").write_text(done.stdout + done.stderr)
    return {"status": done.returncode, "last": done.stdout.strip().splitlines()[-1:]}


def _benchmark(arguments: argparse.Namespace, findings: dict[str, Any]) -> dict[str, Any]:
    """The engines, and the same models on this machine's CPU: a file each."""
    built = [n for n, row in findings["build"].items() if "error" not in row]
    where = findings["environment"]
    names = {
        "tensorrt": machine.slug_of(f"{where['gpu']}-trt{where['tensorrt'][1]}"),
        "onnxruntime": machine.slug(where),
    }
    status = {}
    for device, name in names.items():
        argv = [*built, "--device", device, "--batches", f"1,8,32,{arguments.max_batch}"]
        argv += ["--json", str(arguments.out / f"{name}.json")]
        argv += ["--data", arguments.data] if arguments.data else []
        status[f"{name}.json"] = run.main(argv)
    return status


if __name__ == "__main__":
    raise SystemExit(main())
