"""How a subject is timed: single stream, offline, multi stream, as MLPerf Inference names them.

Reddi et al. 2020, "MLPerf Inference Benchmark". What the clock includes is chosen by `CLOCKS`.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any, Callable

import cv2
import numpy as np

from gender_edge import faces as detectors

from . import energy, scenes
from .subjects import Subject

CLOCKS = {
    "network": "input in memory to answers",
    "crop": "a frame with boxes and landmarks to answers: cropping, resizing, network",
    "decode": "a JPEG file in memory, with boxes and landmarks, to answers",
    "detect": "a JPEG file in memory to answers, finding faces included",
}
WARMUP_RUNS = 3
FEWEST_RUNS = 5
MOST_CAMERAS = 4096
LASTING = 20  # deadlines that a trial of cameras lasts at least
MOST_AT_ONCE = 64  # faces


def work(
    subject: Subject, clock: str, batch: int, detector: str | None, threads: int | None = None
) -> Callable[[], Any]:
    """A call that does once what the clock includes, on a batch of so many faces.

    Args:
        detector: as `gender_edge.faces.detector` takes it, for the clock of that name.
        threads: of the detector.
    """
    if clock == "network":
        ready = subject.blank(batch)
        return lambda: subject.run(ready)
    image = scenes.frame()
    faces = scenes.faces(image, batch)
    if clock == "crop":
        return lambda: subject.run(subject.prepare(faces))
    file = np.frombuffer(scenes.jpeg(image), np.uint8)
    find = detectors.detector(detector, threads=threads) if clock == "detect" else None

    def whole() -> Any:
        decoded = np.asarray(cv2.imdecode(file, cv2.IMREAD_COLOR))
        if find is not None:
            find(decoded)  # the drawn frame has no faces: what it finds is not used
        return subject.run(subject.prepare([replace(face, image=decoded) for face in faces]))

    return whole


def timed(
    subject: Subject,
    batch: int,
    seconds: float,
    clock: str,
    detector: str | None,
    threads: int | None = None,
) -> dict[str, float | None]:
    """Latency percentiles in ms of batches one after another for some seconds, faces a second, and
    joules of the whole machine meanwhile, where it counts them; the other arguments as for `work`.

    With a batch of 1 that is MLPerf's single stream, with a large one offline.
    """
    call = work(subject, clock, batch, detector, threads)
    for _ in range(WARMUP_RUNS):
        call()
    times: list[float] = []
    meter = energy.Meter()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < FEWEST_RUNS:
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    p50, p90, p99 = (float(v) for v in 1e3 * np.percentile(times, (50, 90, 99)))
    faces_per_s = batch * len(times) / sum(times)
    return {
        "runs": len(times),
        "p50_ms": p50,
        "p90_ms": p90,
        "p99_ms": p99,
        "faces_per_s": faces_per_s,
        "joules": meter.joules(),
    }


def paced(subject: Subject, fps: float, seconds: float) -> dict[str, float]:
    """One face at a time in memory, so many a second: latency in ms of a processor that has waited,
    and seconds of processor time a second, all threads together, waiting included (1 is a core).
    """
    call = work(subject, "network", 1, None)
    for _ in range(WARMUP_RUNS):
        call()
    times: list[float] = []
    spent, start = time.process_time(), time.perf_counter()
    for due in start + np.arange(1, max(FEWEST_RUNS, round(fps * seconds)) + 1) / fps:
        time.sleep(max(0.0, due - time.perf_counter()))
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    cores = (time.process_time() - spent) / (time.perf_counter() - start)
    p50, p99 = (float(v) for v in 1e3 * np.percentile(times, (50, 99)))
    return {"fps": fps, "p50_ms": p50, "p99_ms": p99, "cores": cores}


def cameras(
    subject: Subject, clock: str, fps: float, faces: int, deadline_ms: float, seconds: float
) -> dict[str, Any]:
    """MLPerf's multi stream: how many cameras are served in time at the 99th percentile.

    Each camera sends a frame of so many faces every 1/fps seconds, all at other moments; what has
    arrived is answered together, up to `MOST_AT_ONCE` faces.
    """
    at_once = max(1, MOST_AT_ONCE // faces)
    calls = [work(subject, clock, frames * faces, None) for frames in range(1, at_once + 1)]
    for call in calls:  # some engines compile for every new size
        call()

    def serve(frames: int) -> None:
        calls[frames - 1]()

    held, missed = 0, None
    trial = 1
    while trial <= MOST_CAMERAS and missed != held + 1:
        lasting = max(seconds, LASTING * deadline_ms / 1e3)  # else a growing queue looks short
        late = p99_of_queue(serve, trial, fps, at_once, lasting)
        if late > deadline_ms:  # a stall of the machine is no verdict: once more
            late = p99_of_queue(serve, trial, fps, at_once, lasting)
        if late <= deadline_ms:
            held = trial
        else:
            missed = trial
        trial = 2 * trial if missed is None else (held + missed) // 2
    return {
        "cameras": held,
        "clock": clock,
        "fps": fps,
        "faces": faces,
        "deadline_ms": deadline_ms,
    }


def p99_of_queue(
    serve: Callable[[int], None], streams: int, fps: float, at_once: int, seconds: float
) -> float:
    """The 99th percentile in ms from a frame's arrival to its answer, in real time.

    Args:
        serve: answers so many frames together.
        streams: cameras, each with `fps` frames a second, evenly out of step.
        at_once: most frames that are served together.
    """
    arrivals = np.arange(int(streams * fps * seconds)) / (streams * fps)
    if not len(arrivals):
        arrivals = np.zeros(1)
    latencies = np.empty(len(arrivals))
    done, start = 0, time.perf_counter()
    while done < len(arrivals):
        now = time.perf_counter() - start
        waiting = int(np.searchsorted(arrivals, now, "right")) - done
        if waiting <= 0:
            time.sleep(max(0.0, arrivals[done] - now))
            continue
        count = min(waiting, at_once)
        serve(count)
        latencies[done : done + count] = time.perf_counter() - start - arrivals[done : done + count]
        done += count
        if done > 20 and latencies[done - 1] > 10 * seconds:  # it will never catch up
            latencies = latencies[:done]
            break
    return float(1e3 * np.percentile(latencies, 99))
