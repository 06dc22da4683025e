"""The detector's whole path: data, train, onnx, quantize, evaluate, card, ship.

    RUN/weights.safetensors   RUN/fp32.onnx   RUN/int8.onnx
    RUN/int8/model.onnx   evaluation.json   card.md, as shipped

RUN is `detector` in the folder of runs.
"""

from __future__ import annotations

import json
import logging
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Optional

import cv2
import numpy as np

from gender_edge import Classifier, faces, host
from gender_edge.errors import DataError
from gender_edge.faces import Detector, Spotter, YuNet
from gender_edge.labelled import read_labelled
from gender_edge.spec import DetectorSpec
from gender_edge.zoo import CARD, EVALUATION, MODEL

from .. import graph
from ..compression.quantize import METHODS, quantize
from ..data.prepare import Places, annotated, packed
from ..files import digest, fresh, replacing, write
from ..recipe import Source
from ..ship import ship
from . import card, evaluate
from .network import STRIDES, SpotterNetwork, export
from .scenes import SHAPES, Faced, scene
from .train import Settings, train

logger = logging.getLogger(__name__)

RUN = "detector"
SETS = ("celeba_trainval.csv", "utkface.csv", "allagefaces.csv")
TESTS = ("lfw.csv", "celeba_test_full.csv")  # looked at, never tuned on
ALIGNED = "celeba_trainval.csv"  # whose validation split a classifier is asked about
LICENSE = "non-commercial research only (CelebA, UTKFace); All-Age-Faces states no terms"
ORIGIN = "boxes and landmarks by YuNet (MIT), which also says what is not to be learned"
ENOUGH = 0.997  # of YuNet's faces on validation frames: the least score is as high as that allows
SCORES = (0.2, 0.6)  # within which it is chosen
CHOSEN_ON, REPORTED_ON = 300, 1000  # generated frames, other ones each
CALIBRATION_FRAMES = 300
TIMED = 8  # frames
CHOOSING, REPORTING, CALIBRATING = 11, 12, 13  # seeds
LEAST_FOUND, LEAST_TIMES, MOST_BYTES = 0.99, 2.0, 500_000  # of YuNet's faces, of its speed


def build(places: Places, settings: Settings, workers: int = 1) -> Path:
    """Train, export, quantise; returns RUN/int8/model.onnx.

    Raises:
        DataError, ModelError: no YuNet file is named, or it is none.
        DataError: the run was begun with other settings, another YuNet file or other pictures.
    """
    _yunet(places)  # before hours of training, not after
    run = places.runs / RUN
    faced, validation = (_faced(places, split, workers) for split in ("train", "val"))
    network = train(faced, validation, places.detector, settings, run, workers)
    exported, target = run / "fp32.onnx", run / "int8" / MODEL
    if not fresh(exported, run / "weights.safetensors"):
        with replacing(exported) as partial:
            export(network, partial)
    if not fresh(target, exported):
        best = _quantized(network, exported, faced, validation, places)
        graph.write_spec(run / "int8.onnx", best, target)
    return target


def _faced(places: Places, split: str, workers: int = 1) -> Faced:
    return Faced([packed(Source(name, split), places, workers) for name in SETS])


def _yunet(places: Places) -> YuNet:
    if places.detector is None:
        raise DataError("the detector learns from YuNet; name its ONNX file with --yunet")
    return YuNet(str(places.detector))


def _quantized(
    network: SpotterNetwork, source: Path, faced: Faced, validation: Faced, places: Places
) -> DetectorSpec:
    """Write RUN/int8.onnx by the method of range estimates that keeps most of YuNet's faces on
    validation frames; returns its spec, with the least score chosen there.
    """
    frames = np.stack(
        [
            scene(faced, SHAPES[0], np.random.default_rng((CALIBRATING, i))).frame
            for i in range(CALIBRATION_FRAMES)
        ]
    )
    reference, chosen = _yunet(places), list(evaluate.generated(validation, CHOSEN_ON, CHOOSING))
    spec = _described(network)
    scores: dict[str, tuple[float, float]] = {}
    heads = [f"heads.{number}" for number in range(len(STRIDES))]
    with tempfile.TemporaryDirectory(dir=source.parent) as folder:
        for method in METHODS:
            tried, ready = (Path(folder) / f"{method}{kind}.onnx" for kind in ("", "-ready"))
            quantize(source, frames, tried, method, exact=heads)
            graph.write_spec(tried, spec, ready)
            own = Spotter(ready.read_bytes(), str(ready), minimum=0.02)
            scores[method] = evaluate.least_score(own, reference, chosen, ENOUGH)
            logger.info("%s: least score %.3f, finds %.4f at any", method, *scores[method])
        best = max(scores, key=lambda method: scores[method])
        (Path(folder) / f"{best}.onnx").replace(source.with_name("int8.onnx"))
    minimum = float(np.clip(scores[best][0], *SCORES))
    return replace(spec, minimum_score=round(minimum, 3))


def _described(network: SpotterNetwork) -> DetectorSpec:
    parameters, macs = graph.cost(network, 240, 320)
    return DetectorSpec(
        name="spotter_int8",
        strides=STRIDES,
        minimum_score=0.5,
        precision="int8",
        parameters=parameters,
        macs=macs,
        trained_on=tuple(f"{Path(name).stem}:train" for name in SETS),
        origin=ORIGIN,
        license=LICENSE,
        revision=graph.revision(),
    )


def evaluate_step(model: Path, places: Places) -> Path:
    """evaluation.json and card.md beside a model; returns the former."""
    own, reference = Spotter(model.read_bytes(), str(model)), _yunet(places)
    faced = _faced(places, "val")
    frames = {"scenes": evaluate.generated(faced, REPORTED_ON, REPORTING)}
    for name in TESTS:
        frames[Path(name).stem] = evaluate.pictures(read_labelled(places.data / name))
    content: dict[str, Any] = {
        "spec": asdict(own.spec),
        "bytes": model.stat().st_size,
        "sha256": digest(model),
        "sets": {name: evaluate.compare(own, reference, each) for name, each in frames.items()},
    }
    samples = [s for s in annotated(ALIGNED, places) if s.split == "val"]
    with Classifier(device="onnxruntime") as classifier:
        content["classifier"] = classifier.spec.name
        pair: dict[str, Detector] = {"spotter": own, "yunet": reference}
        content["aligned"] = evaluate.aligned(classifier, pair, samples)
    return _keep(model, content)


def _keep(model: Path, content: dict[str, Any]) -> Path:
    target = model.with_name(EVALUATION)
    write(target, json.dumps(content, indent=1) + "\n")
    write(model.with_name(CARD), card.text(model.parent))
    return target


def evaluated(model: Path) -> dict[str, Any]:
    """The evaluation of this very file.

    Raises:
        DataError: there is none, or it is of another file.
    """
    path = model.with_name(EVALUATION)
    content: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    if content.get("sha256") != digest(model):
        raise DataError(f"{model}: not evaluated as it is now; add --evaluate")
    return content


def ship_step(model: Path, models: Path) -> str:
    """Ship an evaluated detector that is worth it; returns its name.

    Raises:
        DataError: it is not evaluated, or finds too little, or is too slow or too large.
    """
    content = evaluated(model)
    wanting = [
        f"finds {100 * own['sizes']['all']['found']['value']:.2f} % of YuNet's faces on {name}, "
        f"wanted {100 * LEAST_FOUND:g}"
        for name, own in content["sets"].items()
        if own["sizes"]["all"]["found"]["value"] < LEAST_FOUND
    ]
    times = content.get("latency", {}).get("detectors", {}).get("yunet", {}).get("times")
    if times is None:
        wanting.append("was not timed; add --latency")
    elif times < LEAST_TIMES:
        wanting.append(f"is {times:.2f} times as fast as YuNet, wanted {LEAST_TIMES:g}")
    if content["bytes"] > MOST_BYTES:
        wanting.append(f"has {content['bytes']} bytes, wanted at most {MOST_BYTES}")
    if wanting:
        raise DataError(f"{model}: not shipped, it {'; it '.join(wanting)}")
    return ship(model.parent, models, section="detectors")


def latency(model: Path, places: Places, threads: Optional[int] = None) -> dict[str, Any]:
    """Time of a frame beside YuNet and, where it is installed, CenterFace (`evaluate.latency`),
    noted in the evaluation and on the card.

    Args:
        threads: of each; None for all cores.
    """
    content = evaluated(model)
    cv2.setNumThreads(threads or cv2.getNumberOfCPUs())
    own = Spotter(model.read_bytes(), str(model), threads=threads)
    detectors: dict[str, Detector] = {"spotter": own, "yunet": _yunet(places)}
    other = faces.center_face()
    if other is not None:
        detectors["centerface"] = other
    frames = list(evaluate.generated(_faced(places, "val"), TIMED, REPORTING))
    times = evaluate.latency(detectors, frames)
    content["latency"] = {
        "processor": host.described(),
        "threads": threads,
        "detectors": times,
    }
    _keep(model, content)
    return times
