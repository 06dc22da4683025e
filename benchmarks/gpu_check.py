"""Everything that wants a GPU, in one command: build, parity, tests, benchmark, verdicts.

    python -m benchmarks.gpu_check --out FOLDER [--data LIST] [--steps build,parity] [--resume]

Each step has a process of its own, so that one that crashes, or loses the GPU's context, costs the
others nothing. What is found goes to FOLDER/gpu-check.json row by row; --resume leaves out what
stands there without an error. The benchmark goes to FOLDER/GPU-trtVERSION.json, the CPU's
beside it.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import gpu_overhead, gpu_verdicts, machine, run, storage
from benchmarks.processes import ROOT
from gender_edge import Classifier, GenderEdgeError, build_engine, evaluation, zoo
from gender_edge.backends import cuda, onnx, tensorrt_api
from gender_edge.labelled import read_labelled

RANDOM_CROPS = 256
NOTES = "gpu-check.json"
SAME = ("gpu", "tensorrt", "max_batch", "data", "models")  # or rows that stand are of another thing


def main(argv: list[str] | None = None) -> int:
    """Run steps; returns how many failed, wholly or in a row."""
    argv = sys.argv[1:] if argv is None else argv
    arguments = _parse(argv)
    notes = Notes(arguments.out)
    if arguments.step:
        STEPS[arguments.step](arguments, notes)
        return 0
    failed = []
    for name in dict.fromkeys(("environment", *arguments.steps.split(","))):
        if not _step(name, argv, notes, arguments.resume, arguments.limit):
            failed.append(name)
            if name == "environment" and arguments.resume:
                break  # what stands there may be another machine's
    print(f"failed: {', '.join(failed) or 'nothing'}")
    return len(failed)


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--data", help="labelled list for parity and accuracy on real faces")
    parser.add_argument("--models", help="shipped names, by commas (default: all)")
    parser.add_argument("--max-batch", type=int, default=64)
    parser.add_argument("--batches", help="of the benchmark (default: 1,8,32 and the largest)")
    parser.add_argument("--rounds", help="of the benchmark: see benchmarks/run.py")
    parser.add_argument("--seconds", help="of the benchmark: see benchmarks/run.py")
    parser.add_argument("--no-cpu", action="store_true", help="benchmark the GPU only")
    parser.add_argument(
        "--limit", type=float, default=14400.0, help="seconds a step may take; then it is ended"
    )
    parser.add_argument(
        "--torch-python",
        default=sys.executable,
        help="a Python with torch and onnx, to compare with",
    )
    parser.add_argument("--steps", default=",".join(STEPS), help="default: %(default)s")
    parser.add_argument("--resume", action="store_true", help="leave out what is there already")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)  # in this process
    arguments = parser.parse_args(argv)
    unknown = set(arguments.steps.split(",")) - set(STEPS)
    if unknown:
        parser.error(f"--steps: no {', '.join(sorted(unknown))}; there are {', '.join(STEPS)}")
    return arguments


def _step(name: str, argv: list[str], notes: Notes, resume: bool, limit: float) -> bool:
    """Run a step in a process of its own; whether it succeeded."""
    notes.read()
    if resume and name == "tests" and name in notes.found and not failures(notes.found[name]):
        return True  # the others leave out what stands there row by row
    if not resume and name != "environment":
        notes.found.pop(name, None)
        notes.write()
    print(f"{name} ...", flush=True)
    began = time.perf_counter()
    command = [sys.executable, "-m", "benchmarks.gpu_check", *argv, "--step", name]
    error = _ended(command, limit)
    notes.read()
    if error:
        notes.found.setdefault(name, {})["error"] = error
        notes.write()
    found = notes.found.get(name, {})
    print(f"{name}: {time.perf_counter() - began:.1f} s\n{json.dumps(found)[:2000]}", flush=True)
    return not failures(found)


def _ended(command: list[str], limit: float) -> str:
    """Run a command, with all that it starts, to its end or at most for so many seconds; returns
    what went wrong.
    """
    process = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
    try:
        status = process.wait(limit)
        return f"its process ended with {status}" if status else ""
    except subprocess.TimeoutExpired:
        return f"not finished after {limit:g} s: give it a longer --limit, and --resume"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):  # one that waits for a driver stays
            process.wait(10)


def failures(found: dict[str, Any]) -> list[str]:
    """The errors of a step: its own, and those of its rows."""
    rows = [row for row in found.values() if isinstance(row, dict)]
    errors = [str(row["error"]) for row in (found, *rows) if "error" in row]
    return errors + [f"status {row['status']}" for row in (found, *rows) if row.get("status")]


def _stands(row: Any) -> bool:
    """Whether a row needs no measuring: without an error, and any file of it still there."""
    file = row.get("path") if isinstance(row, dict) else None
    return not failures({"row": row}) and (file is None or Path(file).exists())


class Notes:
    """What was found, by step, in a file that is whole after every row."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.found: dict[str, Any] = {}
        self.read()

    def read(self) -> None:
        """As another process left them."""
        path = self.folder / NOTES
        self.found = json.loads(path.read_text()) if path.exists() else {}

    def write(self) -> None:
        """Keep them."""
        partial = self.folder / f".{NOTES}.partial"
        partial.write_text(json.dumps(self.found, indent=1) + "\n")
        partial.replace(self.folder / NOTES)

    def rows(self, step: str, names: Iterable[str], measure: Callable[[str], Any]) -> None:
        """Measure one after another what is not there yet; one that fails costs its own row."""
        rows = self.found.setdefault(step, {})
        rows.pop("error", None)  # of a process that ended early
        for name in names:
            if name in rows and _stands(rows[name]):
                continue
            try:
                rows[name] = measure(name)
            except (Exception, SystemExit) as error:
                rows[name] = {"error": f"{type(error).__name__}: {error}"}
            self.write()

    def engines(self) -> dict[str, dict[str, Any]]:
        """What was built: by name, each with its `model` and `path`."""
        rows = self.found.get("build", {})
        built = {n: r for n, r in rows.items() if isinstance(r, dict) and "path" in r}
        if not built:
            raise GenderEdgeError("no engine was built: see step build")
        return built


def _environment(arguments: argparse.Namespace, notes: Notes) -> None:
    device, api = cuda.open_device(), tensorrt_api.load()
    before = notes.found.get("environment", {})
    now = {
        **machine.describe(),
        "gpu": device.name,
        "compute_capability": device.capability,
        "gpu_memory_gb": round(device.memory / 1e9, 1),
        "driver_cuda": device.driver_version,
        "tensorrt": [api.name, api.version],
        "max_batch": arguments.max_batch,
        "data": arguments.data,
        "models": {name: zoo.entry(name).sha256[:16] for name in zoo.names()},
    }
    if other := [k for k in SAME if k in before and before[k] != now[k]]:
        if arguments.resume:
            was = " and ".join(f"{k} {before[k]}, here is {now[k]}" for k in other)
            raise GenderEdgeError(f"{notes.folder / NOTES} is of {was}: give another --out")
        notes.found.clear()
    notes.found["environment"] = now
    notes.write()


def _build(arguments: argparse.Namespace, notes: Notes) -> None:
    """Every model to an engine in the cache, FP32 ones in FP16 too."""
    wanted: dict[str, tuple[str, str | None]] = {name: (name, None) for name in _models(arguments)}
    for name in _models(arguments):
        if name.endswith("_fp32"):
            wanted[name.replace("_fp32", "_fp16")] = (name, "fp16")

    def build(name: str) -> dict[str, Any]:
        model, precision = wanted[name]
        began = time.perf_counter()
        path = build_engine(model, max_batch=arguments.max_batch, precision=precision)
        seconds = time.perf_counter() - began
        size = path.stat().st_size
        return {"model": model, "path": str(path), "seconds": seconds, "bytes": size}

    notes.rows("build", wanted, build)


def _models(arguments: argparse.Namespace) -> list[str]:
    return arguments.models.split(",") if arguments.models else zoo.names()


def _parity(arguments: argparse.Namespace, notes: Notes) -> None:
    """Probabilities and decisions of each engine against ONNX Runtime's on the CPU."""
    samples = read_labelled(arguments.data) if arguments.data else None
    engines = notes.engines()

    def compare(name: str) -> dict[str, Any]:
        found = []
        for key, device in (("path", "tensorrt"), ("model", "onnxruntime")):
            with Classifier(engines[name][key], device=device) as classifier:
                found.append(_answers(classifier, samples))
        (here, right), (there, expected) = found
        difference = np.abs(here - there)
        row = {
            "faces": len(difference),
            "real": samples is not None,
            "mean_difference": float(difference.mean()),
            "largest_difference": float(difference.max()),
            "same_decision": float(((here >= 0.5) == (there >= 0.5)).mean()),
        }
        if right is not None and expected is not None:
            row["accuracy_difference"] = right - expected
        return row

    notes.rows("parity", engines, compare)


def _answers(classifier: Classifier, samples: Any) -> tuple[np.ndarray, float | None]:
    """P(female) of each face, and the balanced accuracy where labels are known."""
    if samples is not None:
        outcome = evaluation.classify(classifier, samples)
        return outcome.female, evaluation.report(outcome)["balanced_accuracy"]["value"]
    side = classifier.spec.input_size
    crops = np.random.default_rng(0).integers(0, 256, (RANDOM_CROPS, side, side, 3), np.uint8)
    return np.array([p.female for p in classifier.predict(crops)]), None


def _overhead(arguments: argparse.Namespace, notes: Notes) -> None:
    """What `Classifier` costs beside the bare engine, and how near it comes to the bus."""
    engines = notes.engines()
    notes.rows(
        "overhead",
        engines,
        lambda name: gpu_overhead.measure(Path(engines[name]["path"]), arguments.max_batch),
    )


def _tests(arguments: argparse.Namespace, notes: Notes) -> None:
    if importlib.util.find_spec("pytest") is None:
        raise GenderEdgeError("pytest is not here: pip install pytest")
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "tests/gpu", "-q", "--tb=short", "-rs"]
    log = arguments.out / "gpu-tests.txt"
    own = {**os.environ, "GENDER_EDGE_MODELS": ",".join(_models(arguments))}
    with log.open("w") as file:  # as they come: what is cut short has what it did
        done = subprocess.run(command, cwd=ROOT, stdout=file, stderr=file, check=False, env=own)
    last = log.read_text().strip().splitlines()[-1:]
    notes.found["tests"] = {"status": done.returncode, "last": last}
    if not any(" passed" in line for line in last):
        notes.found["tests"]["error"] = f"no test passed: see {log}"
    notes.write()


def _benchmark(arguments: argparse.Namespace, notes: Notes) -> None:
    """The engines, and the same models on this machine's CPU: a file each."""
    engines, where = notes.engines(), notes.found["environment"]
    own = [name for name, row in engines.items() if name == row["model"]]
    other = [row["path"] for name, row in engines.items() if name != row["model"]]
    gpu = machine.gpu_slug(where["gpu"], " ".join(where["tensorrt"]))
    plans = {gpu: ("tensorrt", own + other)}
    if arguments.no_cpu:
        print("the CPU is left out: --no-cpu", file=sys.stderr)
    elif onnx.int8_pays():
        plans[machine.slug(where)] = ("onnxruntime", own)
    else:
        print("the CPU is left out: this ONNX Runtime computes INT8 in float", file=sys.stderr)

    def measure(name: str) -> dict[str, Any]:
        device, models = plans[name]
        target = arguments.out / f"{name}.json"
        batches = arguments.batches or f"1,8,32,{arguments.max_batch}"
        argv = [*models, "--device", device, "--batches", batches]
        argv += ["--json", str(target), *(["--resume"] if arguments.resume else [])]
        for option in ("data", "rounds", "seconds"):
            value = getattr(arguments, option)
            argv += [f"--{option}", value] if value else []
        return {"status": run.main(argv), "device": device, "file": target.name}

    notes.rows("benchmark", plans, measure)


def _pytorch(arguments: argparse.Namespace, notes: Notes) -> None:
    """The same networks in PyTorch FP16, a process a model; and the machine's peaks, once."""
    if arguments.torch_python == sys.executable and importlib.util.find_spec("torch") is None:
        raise GenderEdgeError("no torch in this Python: name one that has it by --torch-python")
    environment = dict(os.environ)
    if arguments.torch_python != sys.executable:  # it shall find its own packages and libraries
        for name in ("PYTHONPATH", "PYTHONHOME", "PYTHONNOUSERSITE"):
            environment.pop(name, None)
        folders = environment.get("LD_LIBRARY_PATH", "").split(":")
        driver = [f for f in folders if f and (Path(f) / "libcuda.so.1").exists()]
        environment["LD_LIBRARY_PATH"] = ":".join(driver)

    def measure(name: str) -> dict[str, Any]:
        command = [arguments.torch_python, "-m", "benchmarks.torch_reference"]
        command += [str(zoo.entry(name).path), "--batches", f"1,{arguments.max_batch}"]
        command += ["--device", "cuda"]  # without one it fails, and is not the CPU's in silence
        if gpu_verdicts.peaks(notes.found["pytorch"]):
            command += ["--no-peaks"]
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, check=False, env=environment
        )
        if done.returncode:
            raise RuntimeError(" ".join(done.stderr.strip().splitlines()[-1:]))
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        (rows,) = found.pop("models").values()
        return {**found, "rows": rows}

    notes.rows("pytorch", _models(arguments), measure)


def _verdicts(arguments: argparse.Namespace, notes: Notes) -> None:
    """Not an error where a figure misses: it is what was found. The benchmark gets the GPU's peaks,
    which only the step before it knows.
    """
    peaks = gpu_verdicts.peaks(notes.found.get("pytorch", {}))
    for _, part in gpu_verdicts.good(notes.found.get("benchmark", {})):
        if part["device"] == "tensorrt":
            storage.note_gpu_peaks(arguments.out / part["file"], peaks)
    notes.found["verdicts"] = gpu_verdicts.of(notes.found, arguments.out)
    notes.write()


STEPS: dict[str, Callable[[argparse.Namespace, Notes], None]] = {
    "environment": _environment,
    "build": _build,
    "parity": _parity,
    "overhead": _overhead,
    "tests": _tests,
    "benchmark": _benchmark,
    "pytorch": _pytorch,  # last: torch.compile takes the longest
    "verdicts": _verdicts,
}


if __name__ == "__main__":
    for number in (signal.SIGTERM, signal.SIGHUP):  # what ends this shall end its step too
        signal.signal(number, lambda *_: sys.exit("told to end"))
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # what a driver does wrong while Python ends would cost a step that is done
