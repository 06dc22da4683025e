"""The face detector: scenes, training, export, comparison, and what is shipped."""

from __future__ import annotations

import hashlib
import json
from copy import deepcopy
from dataclasses import asdict, replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest

torch = pytest.importorskip(
    "torch", reason="the workshop needs torch: pip install 'gender_edge[export]'"
)
pytest.importorskip("skimage", reason="backgrounds are scikit-image's: pip install scikit-image")

from export import graph  # noqa: E402
from export.compression.quantize import quantize  # noqa: E402
from export.data.packs import pack  # noqa: E402
from export.data.prepare import Places  # noqa: E402
from export.detector import card, evaluate, scenes, steps, train  # noqa: E402
from export.detector.backgrounds import background, piece  # noqa: E402
from export.detector.losses import losses  # noqa: E402
from export.detector.network import STRIDES, SpotterNetwork, export  # noqa: E402
from export.detector.scenes import Faced, Scene, scene  # noqa: E402
from export.detector.targets import targets  # noqa: E402
from export.provenance import NOTE  # noqa: E402
from export.runs import save_weights  # noqa: E402
from gender_edge import DataError, ModelError, faces, zoo  # noqa: E402
from gender_edge.faces import Spotter  # noqa: E402
from gender_edge.samples import Sample  # noqa: E402
from gender_edge.tracks import overlaps  # noqa: E402

MARKS = [(0, 0, 255), (0, 255, 0), (255, 0, 0), (0, 255, 255), (255, 0, 255)]  # of the landmarks
POINTS = ((44, 60), (84, 60), (64, 80), (50, 100), (78, 100))
BOX = (32.0, 36.0, 64.0, 84.0)
WIDTHS = ((16,), (16,), (32, 32), (32,), (32,))


def drawing(shade: int) -> np.ndarray:
    """A head whose five landmarks have each a colour of their own."""
    image = np.full((140, 128, 3), 40, np.uint8)
    cv2.ellipse(image, (64, 78), (32, 42), 0, 0, 360, (shade, shade, shade), -1)
    for point, color in zip(POINTS, MARKS):
        cv2.circle(image, point, 5, color, -1)
    return image


@pytest.fixture(scope="module")
def faced(tmp_path_factory: pytest.TempPathFactory) -> Faced:
    folder = tmp_path_factory.mktemp("heads")
    samples = []
    for number, shade in enumerate((150, 180, 210)):
        path = folder / f"{number}.png"
        cv2.imwrite(str(path), drawing(shade))
        points = tuple((float(x), float(y)) for x, y in POINTS)
        samples.append(Sample(path, "female", split="train", box=BOX, landmarks=points))
    unknown = replace(samples[0], box=None, landmarks=None)
    return Faced([pack([*samples, unknown], folder / "pack")])


def plain(faced: Faced, monkeypatch: pytest.MonkeyPatch, number: int) -> Scene:
    """A scene in its true colours."""
    for name in ("lit", "degraded"):
        monkeypatch.setattr(scenes, name, lambda picture, rng: picture)
    monkeypatch.setattr(scenes, "OCCLUDED", 0.0)
    monkeypatch.setattr(scenes, "UNFOCUSED", 0.0)
    return scene(faced, (240, 320), np.random.default_rng(number), camera=2.0)


def test_faces_are_where_a_scene_says(faced: Faced, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each landmark has its colour beneath it: turned, mirrored, shrunk as the runtime does."""
    monkeypatch.setattr(scenes, "SIDES", (40.0, 200.0))  # smaller ones have no clear colours
    right, turned = [], []
    for number in range(8):
        drawn = plain(faced, monkeypatch, number)
        assert drawn.frame.shape == (240, 320, 3)
        for box, points in zip(drawn.boxes, drawn.landmarks):
            assert ((points > box[:2]) & (points < box[:2] + box[2:])).all()
            assert points[0, 0] < points[1, 0] and points[3, 0] < points[4, 0]  # for the viewer
            turned.append(_mirrored(drawn, points))
            colors = np.array(MARKS)[scenes.MIRRORED if turned[-1] else slice(None)]
            for (x, y), color in zip(points.astype(int), colors):
                if 0 <= x < 320 and 0 <= y < 240:
                    right.append(np.abs(drawn.frame[y, x] - color).max() < 90)
    assert len(right) > 80 and np.mean(right) >= 0.85  # a later picture may lie over one
    assert 0.2 < np.mean(turned) < 0.8


def _mirrored(drawn: Scene, points: np.ndarray) -> bool:
    """Whether the landmark drawn red, the first of an upright head, is the second one here."""
    x, y = np.clip(points[1].astype(int), 0, (319, 239))
    return bool(drawn.frame[y, x, 2] > drawn.frame[y, x, 1])


def test_scenes_are_the_same_for_the_same_seed(faced: Faced) -> None:
    one, same, other = (scene(faced, (192, 192), np.random.default_rng(s)) for s in (5, 5, 6))
    np.testing.assert_array_equal(one.frame, same.frame)
    np.testing.assert_array_equal(one.landmarks, same.landmarks)
    assert one.boxes.shape != other.boxes.shape or (one.boxes != other.boxes).any()


def test_what_is_no_face_is_less_than_half_of_one(faced: Faced) -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        image, sample = faced.draw(rng)
        part = piece(image, sample, rng)
        assert 0 < part.shape[0] * part.shape[1] < 0.45 * BOX[2] * BOX[3]
        assert background((60, 90), faced.packs, rng).shape == (60, 90, 3)


@pytest.fixture(scope="module")
def lesson() -> tuple[Scene, SpotterNetwork]:
    """One small scene, and a network that has learned it by heart."""
    torch.manual_seed(0)
    frame = np.random.default_rng(0).integers(60, 120, (96, 128, 3)).astype(np.uint8)
    boxes, points = [], []
    for x, y, scale in ((6, 8, 0.25), (48, 6, 0.6)):
        head = cv2.resize(drawing(200), None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        frame[y : y + len(head), x : x + head.shape[1]] = head
        boxes.append(np.array(BOX) * scale + (x, y, 0, 0))
        points.append(np.array(POINTS) * scale + (x, y))
    drawn = Scene(frame, np.float32(boxes), np.float32(points), np.empty((0, 4), np.float32))
    states, values = targets(drawn.boxes, drawn.landmarks, drawn.ignored, (96, 128), STRIDES)
    told = torch.from_numpy(states)[None], torch.from_numpy(values)[None]
    network, pixels = SpotterNetwork(WIDTHS), torch.from_numpy(frame)[None]
    optimizer = torch.optim.AdamW(network.parameters(), 4e-3)
    for step in range(160):
        optimizer.param_groups[0]["lr"] = train.learning_rate(4e-3, 0.05, step / 160)
        loss = torch.stack(list(losses(network(pixels), *told).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    # With one picture its own statistics are all there are.
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
            module.reset_running_stats()
    with torch.no_grad():
        network(pixels)
    return drawn, network.eval()


@pytest.fixture(scope="module")
def model(lesson: tuple[Scene, SpotterNetwork], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That network as INT8, with its metadata."""
    folder = tmp_path_factory.mktemp("spotter")
    export(lesson[1], folder / "fp32.onnx")
    frames = np.repeat(lesson[0].frame[None], 8, 0)
    heads = [f"heads.{number}" for number in range(len(STRIDES))]
    quantize(folder / "fp32.onnx", frames, folder / "int8.onnx", exact=heads)
    graph.write_spec(folder / "int8.onnx", steps._described(lesson[1]), folder / "model.onnx")
    return folder / "model.onnx"


def test_what_was_learned_is_found_again_through_the_runtime(
    lesson: tuple[Scene, SpotterNetwork], model: Path
) -> None:
    drawn = lesson[0]
    detector = faces.detector(str(model))
    assert isinstance(detector, Spotter) and detector.spec.name in repr(detector)
    for factor in (1, 4):  # 4: larger than it looks at, so it is shrunk
        detector.side = 128
        frame = cv2.resize(drawn.frame, None, fx=factor, fy=factor, interpolation=cv2.INTER_NEAREST)
        found = detector(frame)
        assert len(found) == 2 and found.landmarks is not None
        shared = overlaps(drawn.boxes * factor, found.boxes)
        assert shared.max(1).min() > 0.7
        moved = found.landmarks[shared.argmax(1)] / factor
        error = np.linalg.norm(moved - drawn.landmarks, axis=2) / drawn.boxes[:, 2:3]
        assert error.max() < 0.12


def test_any_size_of_frame_will_do(model: Path) -> None:
    detector = Spotter(model.read_bytes(), "model")
    for shape in ((1, 1), (17, 33), (97, 31), (700, 333)):
        assert detector(np.zeros((*shape, 3), np.uint8)).boxes.shape[1] == 4


def test_other_kinds_of_files_are_refused(
    lesson: tuple[Scene, SpotterNetwork], model: Path, tmp_path: Path
) -> None:
    content = model.read_bytes()
    with pytest.raises(ModelError, match="damaged or not an ONNX model"):
        Spotter(content[: len(content) // 2], "half")
    spec = steps._described(lesson[1])
    for changed, said in (
        (replace(spec, strides=(8, 16)), "map of 15 channels for each stride"),
        (replace(spec, minimum_score=1.5), "minimum_score"),
    ):
        graph.write_spec(model, changed, tmp_path / "changed.onnx")
        with pytest.raises(ModelError, match=said):
            Spotter((tmp_path / "changed.onnx").read_bytes(), "changed")


def test_int8_is_one_integer_kernel_a_layer(model: Path, tmp_path: Path) -> None:
    """As ONNX Runtime will run it: no ReLU and no conversion is left between convolutions."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    kinds = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    assert kinds.count("QLinearConv") == sum(len(stage) for stage in WIDTHS)
    assert kinds.count("Conv") == len(STRIDES) and kinds.count("QuantizeLinear") == 1
    assert "Relu" not in kinds


def test_the_network_fits_its_budget() -> None:
    parameters, macs = graph.cost(SpotterNetwork(), 240, 320)
    assert parameters < 400_000 and macs < 80e6  # 500 kB as INT8; YuNet's cost is about twice that


def test_training_goes_on_where_it_was_stopped(
    faced: Faced, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same weights as in one go, and no second training."""
    monkeypatch.setattr(train, "VALIDATION_SCENES", 2)
    monkeypatch.setattr(train, "SHAPES", ((64, 64),) * 4)
    chosen = train.Settings(steps=4, batch_size=2, every=2, widths=WIDTHS)
    whole = train.train(faced, faced, None, chosen, tmp_path / "whole", workers=0)
    learn, calls = train._Training._learn, []

    def interrupted(*arguments: object) -> object:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return learn(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(train._Training, "_learn", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train.train(faced, faced, None, chosen, tmp_path / "parts", workers=0)
    parts = train.train(faced, faced, None, chosen, tmp_path / "parts", workers=0)
    assert len(calls) == 5  # two, the interrupted one, two
    for name, weights in whole.state_dict().items():
        torch.testing.assert_close(parts.state_dict()[name], weights)
    rows = (tmp_path / "parts" / "metrics.csv").read_text().splitlines()
    assert len(rows) == 3 and rows[0].startswith("step,score,box,landmarks,found,wrong")
    train.train(faced, faced, None, chosen, tmp_path / "parts", workers=0)
    assert len(calls) == 5
    with pytest.raises(DataError, match="other settings"):
        train.train(faced, faced, None, replace(chosen, steps=9), tmp_path / "parts")


def test_a_training_does_not_go_on_from_another_teacher_or_other_pictures(
    faced: Faced, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither where it was stopped nor to be exported: it would not be what its settings say."""
    run, yunet, chosen = tmp_path / "run", tmp_path / "yunet.onnx", train.Settings(widths=WIDTHS)
    yunet.write_bytes(b"one")

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    def go(pictures: Faced, teacher: Path) -> None:
        train.train(pictures, pictures, teacher, chosen, run, workers=0)

    monkeypatch.setattr(train, "validation_scenes", stopped)
    with pytest.raises(KeyboardInterrupt):
        go(faced, yunet)
    with pytest.raises(KeyboardInterrupt):
        go(faced, yunet)  # the same again
    own = faced.packs[0]
    fewer = Faced([pack(own.samples[:2], tmp_path / own.folder.name)])
    finished = SpotterNetwork(WIDTHS).state_dict()
    for state in (None, finished):
        if state is not None:
            save_weights(state, run / "weights.safetensors")
        with pytest.raises(DataError, match="the pictures of pack and the pixels of pack were oth"):
            go(fewer, yunet)
        yunet.write_bytes(b"another")
        with pytest.raises(DataError, match="begun when the YuNet file were others; remove that"):
            go(faced, yunet)
        yunet.write_bytes(b"one")
    go(faced, yunet)
    (run / NOTE).unlink()  # as before it was noted
    go(fewer, yunet)
    assert not (run / NOTE).exists()


def test_without_a_teacher_nothing_is_begun(tmp_path: Path) -> None:
    places = Places(tmp_path, tmp_path / "runs", tmp_path / "models")
    with pytest.raises(DataError, match="--yunet"):
        steps.build(places, train.Settings())
    with pytest.raises(ModelError, match="no such file"):
        steps.build(replace(places, detector=tmp_path / "yunet.onnx"), train.Settings())
    assert not (tmp_path / "runs").exists()


def _timed(times: float) -> dict[str, dict[str, float]]:
    return {"spotter": {"ms": 2.0, "times": 1.0}, "yunet": {"ms": 2 * times, "times": times}}


def test_shipped_it_is_what_detector_opens(
    model: Path, faced: Faced, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compared, described, shipped beside the classifiers, opened without a name."""
    models = tmp_path / "models"
    models.mkdir()
    registry = (zoo.folder() / zoo.REGISTRY).read_text()
    (models / zoo.REGISTRY).write_text(registry)
    spotter = Spotter(model.read_bytes(), str(model))
    frames = evaluate.generated(faced, 2, 0)
    content = {
        "spec": asdict(spotter.spec),
        "bytes": model.stat().st_size,
        "sets": {"scenes": evaluate.compare(spotter, spotter, frames)},
        "classifier": "slim_int8",
        "aligned": {"spotter": {"value": 0.9, "low": 0.8, "high": 0.95, "n": 10, "lost": 1}},
    }
    evaluation = model.parent / "evaluation.json"

    def refused(reason: str, **changes: object) -> None:
        evaluation.write_text(json.dumps({**content, **changes}))
        with pytest.raises(DataError, match=reason):
            steps.ship_step(model, models)

    content["sets"]["scenes"]["sizes"]["all"]["found"]["value"] = 0.995
    refused("not evaluated as it is now")
    content["sha256"] = hashlib.sha256(model.read_bytes()).hexdigest()
    refused("was not timed")
    content["latency"] = {"processor": "some", "threads": 1, "detectors": _timed(2.2)}
    refused("1.90 times as fast", latency={"detectors": _timed(1.9)})
    refused("600000 bytes", bytes=600_000)
    few = deepcopy(content["sets"])
    few["scenes"]["sizes"]["all"]["found"]["value"] = 0.98
    refused("finds 98.00 % of YuNet's faces on scenes", sets=few)
    evaluation.write_text(json.dumps(content))
    written = card.text(model.parent)
    model.with_name(zoo.CARD).write_text(written)
    assert "# spotter_int8" in written and "| yunet | 4.40 | 2.20 |" in written
    assert steps.ship_step(model, models) == "spotter_int8"
    assert (
        json.loads((models / zoo.REGISTRY).read_text())["models"] == json.loads(registry)["models"]
    )
    monkeypatch.setattr(zoo, "folder", lambda: models)
    zoo._registry.cache_clear()
    try:
        assert isinstance(faces.detector(), Spotter)
        (models / "spotter_int8" / "model.onnx").write_bytes(b"changed")
        with pytest.raises(ModelError, match="damaged or was changed"):
            faces.detector()
    finally:
        zoo._registry.cache_clear()
