"""Whole pipelines: cameras, detector, tracker and classifier on this machine, in real time.

    python benchmarks/pipeline.py --video clip.mp4 --streams 4 --seconds 60 --detector yunet.onnx

The video is played by every stream at its own speed, over and over, each frame decoded anew. Says
whether the machine keeps up, how late answers are, and whether memory grows. The last line is the
result as JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a file: make the folder above importable
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import cv2

from benchmarks import machine, memory
from gender_edge import Classifier, GenderEdgeError, faces
from gender_edge.camera import Camera
from gender_edge.pipeline import Pipeline
from gender_edge.tracks import Smoothing

SETTLING = 0.2  # of the time: until then memory may grow


def main(argv: list[str] | None = None) -> int:
    """Run a command line; returns 0, or 2 if nothing could be measured."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--video", required=True, help="a file that OpenCV reads")
    parser.add_argument("--streams", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--detector", help="YuNet ONNX file (default: ours, or CenterFace)")
    parser.add_argument("--model", help="shipped name or file (default: the shipped default)")
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--every-frame", action="store_true", help="classify tracks that are decided too"
    )
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args(argv)
    cv2.setNumThreads(1)  # the streams are the threads
    try:
        result = measure(arguments)
    except GenderEdgeError as error:
        print(f"pipeline: {error}", file=sys.stderr)
        return 2
    for s in result["cameras"]:
        late = f"p50 {s['p50_ms']:.0f} ms, p99 {s['p99_ms']:.0f} ms"
        print(f"{s['fps']:.2f} fps, {s['dropped']} of {s['frames']} dropped, {late}, {s['tracks']}")
    print(
        f"batches: {result['batching']}; resident {result['resident_mb'][0]:.0f} MB settled, "
        f"{result['resident_mb'][1]:.0f} MB at the end"
    )
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))
    return 0


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Play the video on all streams and note what came of it."""
    detector = faces.detector(arguments.detector)
    smoothing = Smoothing(sure=float("inf")) if arguments.every_frame else None
    held: list[float] = []
    with Classifier(arguments.model, device=arguments.device) as classifier:
        cameras = [Camera(arguments.video, live=True, loop=True) for _ in range(arguments.streams)]
        with Pipeline(cameras, classifier, detector, smoothing=smoothing) as pipeline:
            end = time.monotonic() + arguments.seconds
            settled = time.monotonic() + SETTLING * arguments.seconds
            for _ in pipeline:
                now = time.monotonic()
                if now > settled:
                    held.append(memory.resident_mb()[0])
                    settled = now + 1
                if now > end:
                    break
            stats, batching = pipeline.stats(), pipeline.batching()
        about = repr(classifier)
    for own in stats:
        own["frames"] += own["dropped"]
        own["source"] = Path(own["source"]).name  # folders are no part of a result
    return {
        "classifier": about,
        "machine": machine.describe(),
        "streams": arguments.streams,
        "seconds": arguments.seconds,
        "every_frame": arguments.every_frame,
        "cameras": stats,
        "batching": batching,
        "resident_mb": [held[0], held[-1]] if held else [memory.resident_mb()[0]] * 2,
    }


if __name__ == "__main__":
    raise SystemExit(main())
