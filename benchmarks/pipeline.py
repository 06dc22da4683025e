"""Whole pipelines: cameras, detector, tracker and classifier on this machine, in real time.

    python benchmarks/pipeline.py --faces lfw.csv --streams 4 --seconds 60 \
        --detector face_detection_yunet.onnx
    python benchmarks/pipeline.py --video clip.mp4 --every-frame --full-batches 3

Every stream plays a video at its own speed, over and over, each frame decoded anew: one of yours,
or one made of labelled faces, other ones in each stream. Says whether the machine keeps up, how
late answers are, and whether memory grows. The last line is the result as JSON.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a file: make the folder above importable
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import cv2

from benchmarks import clips, full_batches, machine, memory
from gender_edge import Classifier, GenderEdgeError, faces
from gender_edge.camera import Camera
from gender_edge.classifier import DEFAULT_BATCH
from gender_edge.labelled import read_labelled
from gender_edge.pipeline import Pipeline
from gender_edge.tracks import Smoothing

MINUTE = 60.0  # s between two samples of memory
LONGEST_FULL = 60.0  # s of full batches


def main(argv: list[str] | None = None) -> int:
    """Run a command line; returns 0, or 2 if nothing could be measured."""
    argv = sys.argv[1:] if argv is None else argv
    arguments = _parser().parse_args(argv)
    if arguments.opencv_threads is not None:
        cv2.setNumThreads(arguments.opencv_threads)
    try:
        with tempfile.TemporaryDirectory() as folder:
            videos, truth = _videos(arguments, Path(folder))
            result = {"command": _command(argv), **measure(arguments, videos)}
    except GenderEdgeError as error:
        print(f"pipeline: {error}", file=sys.stderr)
        return 2
    for own, labels in zip(result["cameras"], truth):
        own["truth"] = labels
        late = ("none" if own[k] is None else f"{own[k]:.0f} ms" for k in ("p50_ms", "p99_ms"))
        print(
            f"{own['fps']:.2f} fps, {own['dropped']} of {own['frames']} dropped, "
            f"p50, p99: {', '.join(late)}"
        )
        print(f"  tracks {own['tracks']}, each round shows {labels or 'who knows'}")
    first, last = result["resident_mb"][0], result["resident_mb"][-1]
    print(f"batches: {result['batching']}")
    if result["full_batches"]:
        print(f"full batches: {result['full_batches']}")
    print(f"processor time: {100 * result['cores']:.0f} % of a core, decoding the videos included")
    print(f"resident {first['mb']:.0f} MB at first, {last['mb']:.0f} MB at the end")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    played = parser.add_mutually_exclusive_group(required=True)
    played.add_argument("--video", help="a file that OpenCV reads")
    played.add_argument("--faces", metavar="LIST", help="labelled faces to make clips of")
    parser.add_argument("--per-frame", type=int, default=3, help="of --faces, in each frame")
    parser.add_argument("--streams", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--detector", help="YuNet ONNX file (default: ours, or CenterFace)")
    parser.add_argument("--model", help="shipped name or file (default: the shipped default)")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--max-batch", type=int, default=DEFAULT_BATCH, help="faces")
    parser.add_argument("--max-delay", type=float, default=20, metavar="MS", help="of a batch")
    parser.add_argument(
        "--every-frame", action="store_true", help="classify tracks that are decided too"
    )
    parser.add_argument(
        "--full-batches",
        type=int,
        metavar="FACES",
        help="also time full batches alone, of so many crops from each stream",
    )
    parser.add_argument("--opencv-threads", type=int, help="default: OpenCV's own, as for `watch`")
    parser.add_argument("--json", type=Path, metavar="FILE")
    return parser


def _command(argv: list[str]) -> str:
    """As typed, without folders: they are no part of a result."""
    words = []
    for word in argv:
        *option, value = word.split("=", 1)
        words.append("=".join([*option, Path(value).name if value.startswith("/") else value]))
    return shlex.join(["python", "benchmarks/pipeline.py", *words])


def _videos(
    arguments: argparse.Namespace, folder: Path
) -> tuple[list[str], list[dict[str, int] | None]]:
    """A video for each stream, and how many faces of each label it shows, where that is known."""
    if arguments.video:
        return [arguments.video] * arguments.streams, [None] * arguments.streams
    count = arguments.per_frame
    samples = clips.pick(read_labelled(arguments.faces), arguments.streams * count)
    videos: list[str] = []
    truth: list[dict[str, int] | None] = []
    for number in range(arguments.streams):
        own = samples[number * count : (number + 1) * count]
        path = folder / f"{Path(arguments.faces).stem}-{number}.mp4"
        clips.write(path, own)
        videos.append(str(path))
        truth.append(dict(Counter(sample.label for sample in own)))
    return videos, truth


def measure(arguments: argparse.Namespace, videos: list[str]) -> dict[str, Any]:
    """Play each video on a stream of its own and note what came of it."""
    detector = faces.detector(arguments.detector)
    smoothing = Smoothing(sure=1e9) if arguments.every_frame else Smoothing()
    delay = arguments.max_delay / 1e3
    with Classifier(arguments.model, device=arguments.device) as classifier:
        cameras = [Camera(video, live=True, loop=True) for video in videos]
        with Pipeline(
            cameras,
            classifier,
            detector,
            smoothing=smoothing,
            max_batch=arguments.max_batch,
            max_delay=delay,
        ) as pipeline:
            began, spent = time.perf_counter(), time.process_time()
            held = _run(pipeline, arguments.seconds)
            cores = (time.process_time() - spent) / (time.perf_counter() - began)
            stats, batching = pipeline.stats(), pipeline.batching()
        full = None
        if arguments.full_batches:
            seconds = min(arguments.seconds, LONGEST_FULL)
            full = full_batches.measure(
                classifier, len(videos), arguments.full_batches, seconds, delay
            )
        about = repr(classifier)
    for own in stats:
        own["frames"] += own["dropped"]
        own["source"] = Path(own["source"]).name  # folders are no part of a result
    return {
        "classifier": about,
        "detector": repr(detector),
        "machine": machine.describe(),
        "settings": {
            "streams": len(videos),
            "seconds": arguments.seconds,
            "every_frame": arguments.every_frame,
            "max_batch": arguments.max_batch,
            "max_delay_ms": arguments.max_delay,
            "smoothing": asdict(smoothing),
            "opencv_threads": cv2.getNumThreads(),
        },
        "cameras": stats,
        "cores": cores,
        "batching": batching,
        "full_batches": full,
        "resident_mb": held,
    }


def _run(pipeline: Pipeline, seconds: float) -> list[dict[str, float]]:
    """Take results for so long; memory at the first one, every minute, and at the end."""
    began = time.monotonic()
    due, held = 0.0, []
    for _ in pipeline:
        now = time.monotonic() - began
        if now >= due or now > seconds:
            held.append({"seconds": round(now, 1), "mb": round(memory.resident_mb()[0], 1)})
            due += MINUTE
        if now > seconds:
            break
    return held


if __name__ == "__main__":
    raise SystemExit(main())
