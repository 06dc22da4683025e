from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from gender_edge import Classifier, ModelError, deploy_browser, images, zoo
from gender_edge.classifier import DEFAULT_BATCH
from gender_edge.cli import main
from gender_edge.engines import spec_of
from gender_edge.errors import DataError

OLDEST_NODE = 18
MODELS = ("nano_gray_int8", "slim_p75_int8", "slim_p75_fp32")
ORT_WEB = "onnxruntime-web@1.30.0"  # what this was written with
ORT_WEB_FOLDER = "GENDER_EDGE_ORT_WEB"  # names it unpacked, or its dist; else npm is asked

SAME_PIXELS = 1e-3  # between probabilities of the same crops (found: 4e-7)
# Between crops that either side cut, in grey levels, mean of a crop. Found: 1 and 0.05 with OpenCV
# 5, for rounding; 3 and 0.26 with 4.10, which takes pixels at places in steps of 1/32.
CROP_MOST, CROP_MEAN = 4, 0.5
OWN_PIXELS = 0.05  # between probabilities of such crops (found: 0.009 and 0.038, by INT8)

# A page's part in Node: what classifier.js says of pictures in the job, as JSON.
RUN = """
import { readFileSync } from "node:fs";
const job = JSON.parse(readFileSync(process.argv[1], "utf8"));
const { Classifier } = await import(job.module);
const read = (name) => new Uint8Array(readFileSync(`${job.folder}/${name}`));
const pixels = job.pictures.map(({ file, width, height }) => (
  { data: new Uint8ClampedArray(read(file)), width, height }
));
const spec = JSON.parse(readFileSync(`${job.folder}/model.json`, "utf8"));
const text = (bytes) => Buffer.from(bytes).toString("base64");
const cutter = new Classifier(null, null, spec);
const found = { crops: pixels.map((one) => text(cutter.crop(one))) };
if (job.runtime) {
  const classifier = await Classifier.open(await import(job.runtime), spec, read(spec.file));
  const length = 3 * spec.input_size ** 2;
  const ready = job.ready ? read(job.ready) : new Uint8Array();
  const crops = [];
  for (let at = 0; at < ready.length; at += length) crops.push(ready.slice(at, at + length));
  found.ready = await classifier.probabilities(crops);
  found.labels = await classifier.predict(crops);
  found.answers = await classifier.classify(pixels);
  const twice = await Promise.all([classifier.classify(pixels), classifier.classify(pixels)]);
  found.same = twice.every((one) => JSON.stringify(one) === JSON.stringify(found.answers));
}
console.log(JSON.stringify(found));
"""


@pytest.fixture(scope="session")
def node() -> str:
    found = shutil.which("node")
    if found is None:
        pytest.skip("classifier.js is run by Node, which is not installed")
    version = subprocess.run(
        [found, "--version"], capture_output=True, text=True, check=True
    ).stdout
    if int(version.lstrip("v").split(".")[0]) < OLDEST_NODE:
        pytest.skip(
            f"classifier.js is run by Node {OLDEST_NODE} or newer, here is {version.strip()}"
        )
    return found


@pytest.fixture(scope="session")
def ort_web(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The npm package onnxruntime-web, unpacked: as the user names it, or from npm."""
    if named := os.environ.get(ORT_WEB_FOLDER):
        return Path(named)
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip(f"no npm to get {ORT_WEB} with; name its folder in {ORT_WEB_FOLDER}")
    home = tmp_path_factory.mktemp("npm")
    command = [npm, "pack", "--silent", "--prefer-offline", "--fetch-retries=0", ORT_WEB]
    try:
        subprocess.run(command, cwd=home, capture_output=True, check=True, timeout=60)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"npm cannot get {ORT_WEB} ({error}); name its folder in {ORT_WEB_FOLDER}")
    (packed,) = home.glob("*.tgz")
    with tarfile.open(packed) as archive:
        for name in (f"package/dist/{name}" for name in deploy_browser.RUNTIME):
            content = archive.extractfile(name)
            assert content is not None
            (home / name).parent.mkdir(parents=True, exist_ok=True)
            (home / name).write_bytes(content.read())
    return home / "package"


@pytest.fixture(scope="session")
def pictures(portrait: np.ndarray, face: np.ndarray) -> list[np.ndarray]:
    """BGR crops: as a detector cuts them, tall, wide, small, large, and one long strip."""
    x, y, w, h = 178, 63, 90, 113
    return [
        face,
        face[:, ::-1].copy(),
        portrait[y : y + h, x : x + w].copy(),
        portrait[20:320, 150:300].copy(),
        portrait[40:200, 60:400].copy(),
        cv2.resize(face, (23, 31), interpolation=cv2.INTER_AREA),
        cv2.resize(face, (64, 64), interpolation=cv2.INTER_AREA),
        cv2.resize(face, (1301, 1613), interpolation=cv2.INTER_CUBIC),
        portrait[:, 200:230].copy(),
    ]


def in_node(node: str, folder: Path, pictures: Sequence[np.ndarray], **job: Any) -> dict[str, Any]:
    """What classifier.js makes of BGR pictures, in a written folder."""
    listed = []
    for number, picture in enumerate(pictures):
        file = f"{number}.rgba"
        (folder / file).write_bytes(cv2.cvtColor(picture, cv2.COLOR_BGR2RGBA).tobytes())
        listed.append({"file": file, "width": picture.shape[1], "height": picture.shape[0]})
    job |= {"folder": str(folder), "module": (folder / "classifier.js").as_uri()}
    (folder / "job.json").write_text(json.dumps({**job, "pictures": listed}))
    (folder / "package.json").write_text('{"type": "module"}')  # Node's, not browsers', wish
    return json.loads(run_module(node, RUN, str(folder / "job.json")))


def run_module(node: str, code: str, *arguments: str) -> str:
    done = subprocess.run(
        [node, "--input-type=module", "-e", code, "--", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize("model", MODELS)
def test_folder_is_whole_and_says_what_the_model_says(model: str, tmp_path: Path) -> None:
    home = deploy_browser.browser(model, tmp_path)
    files = {path.name for path in home.iterdir()}
    assert files == {*deploy_browser.PAGE, "model.onnx", "model.json", "README.md"}
    assert (home / "model.onnx").read_bytes() == zoo.read(model)
    said, spec = json.loads((home / "model.json").read_text()), spec_of(zoo.read(model), model)
    assert said.pop("format") == deploy_browser.FORMAT and said.pop("file") == "model.onnx"
    assert said.pop("fill") == spec.crop.fill and tuple(said.pop("labels")) == spec.labels
    assert {name: getattr(spec, name) for name in said} == said
    assert {"input_size", "color_order", "temperature", "abstain_below"} <= set(said)


def test_page_names_its_files_and_no_other_host(tmp_path: Path) -> None:
    home = deploy_browser.browser(zoo.default(), tmp_path)
    page = (home / "index.html").read_text()
    named = re.findall(r'(?:src|href)="(?!data:)([^"]+)"', page)
    assert sorted(named) == ["page.css", "page.js"] and all((home / n).is_file() for n in named)
    for script, wanted in (("page.js", {"classifier.js"}), ("classifier.js", {"crops.js"})):
        found = re.findall(
            r'^(?:im|ex)port .* from "\./([^"]+)"', (home / script).read_text(), re.M
        )
        assert set(found) == wanted
    for name in deploy_browser.PAGE:
        hosts = re.findall(r"https?://([\w.:-]*)", (home / name).read_text())
        assert set(hosts) <= {"", "localhost", "localhost:8000"}, name
    policy = re.search(r'content="(default-src [^"]+)"', page)
    assert policy and policy[1].startswith("default-src 'none';")
    allowed = set(re.findall(r"-src ([^;]+)", policy[1]))
    assert allowed == {"'none'", "'self'", "'self' 'wasm-unsafe-eval'", "'self' data:"}
    assert "binary labels of data sets, not identity" in page and "never leave" in page


def test_scripts_want_what_is_written(tmp_path: Path) -> None:
    """Both sides name the runtime's files and the format, and the shared numbers."""
    script = (deploy_browser.SOURCES / "classifier.js").read_text()
    listed = re.search(r"RUNTIME_FILES = \[(.*?)\]", script, re.DOTALL)
    assert listed and tuple(re.findall(r'"(.+?)"', listed[1])) == deploy_browser.RUNTIME
    assert f"export const FORMAT = {deploy_browser.FORMAT};" in script
    assert f"BATCH = {DEFAULT_BATCH};" in script
    crops = (deploy_browser.SOURCES / "crops.js").read_text()
    assert f"MAX_SIDE = {images.MAX_SIDE};" in crops
    central = re.search(r"CENTRAL = ([\d.]+)", (deploy_browser.SOURCES / "page.js").read_text())
    inset = re.search(r"inset: (\d+)%", (deploy_browser.SOURCES / "page.css").read_text())
    assert central and inset and float(central[1]) == pytest.approx(1 - 2 * int(inset[1]) / 100)


def test_runtime_is_copied_from_a_package_or_its_dist(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dist = tmp_path / "package" / "dist"
    dist.mkdir(parents=True)
    for name in deploy_browser.RUNTIME:
        (dist / name).write_text(name)
    for number, named in enumerate((dist, dist.parent)):
        out = tmp_path / str(number)
        assert main(["deploy", "browser", str(out), "--runtime", str(named)]) == 0
        written, notes = capsys.readouterr()
        runtime = out / f"{zoo.default()}_browser" / "runtime"
        assert sorted(p.name for p in runtime.iterdir()) == sorted(deploy_browser.RUNTIME)
        assert all(p.read_text() == p.name and f"{p}\n" in written for p in runtime.iterdir())
        assert not notes
    assert main(["deploy", "browser", str(out)]) == 0  # it is there already, and is kept
    assert not capsys.readouterr().err
    assert main(["deploy", "browser", str(tmp_path / "without")]) == 0
    notes = capsys.readouterr().err
    assert all(name in notes for name in (*deploy_browser.RUNTIME, "npm pack", "--runtime"))


def test_errors_say_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ModelError, match="shipped names are"):
        deploy_browser.browser("none.onnx", tmp_path)
    with pytest.raises(DataError, match=r"ort\.wasm\.min\.mjs.*npm pack onnxruntime-web"):
        deploy_browser.browser(zoo.default(), tmp_path / "out", runtime=tmp_path)
    assert not (tmp_path / "out").exists()  # nothing half written
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="name another folder"):
        deploy_browser.browser(zoo.default(), tmp_path / "file")
    assert main(["deploy", "triton", str(tmp_path), "--runtime", str(tmp_path)]) == 2
    assert "deploy browser" in capsys.readouterr().err
    assert not (tmp_path / zoo.default()).exists()


@pytest.mark.parametrize("model", MODELS[:2])  # of 48 and of 64 pixels
def test_crops_are_cut_as_in_python(
    model: str, node: str, pictures: list[np.ndarray], tmp_path: Path
) -> None:
    home = deploy_browser.browser(model, tmp_path)
    with Classifier(model, device="onnxruntime") as classifier:
        expected = [classifier.crop(picture) for picture in pictures]
    compare_crops(in_node(node, home, pictures)["crops"], expected)


def compare_crops(found: list[str], expected: list[np.ndarray]) -> None:
    assert len(found) == len(expected)
    for text, crop in zip(found, expected):
        own = np.frombuffer(base64.b64decode(text), np.uint8).reshape(crop.shape)
        difference = np.abs(own.astype(int) - crop)
        assert difference.max() <= CROP_MOST and difference.mean() <= CROP_MEAN


@pytest.mark.parametrize("model", MODELS)
def test_answers_are_those_of_python(
    model: str, node: str, ort_web: Path, pictures: list[np.ndarray], tmp_path: Path
) -> None:
    """On WASM: a batch of ready crops, and pictures of other shapes that either side cuts."""
    home = deploy_browser.browser(model, tmp_path, runtime=ort_web)
    with Classifier(model, device="onnxruntime") as classifier:
        crops = np.stack([classifier.crop(picture) for picture in pictures])
        many = np.concatenate([crops] * 8)  # more than are run at once
        probabilities, predictions = classifier.probabilities(many), classifier(pictures)
    (home / "ready.bin").write_bytes(many.tobytes())
    runtime = (home / "runtime" / deploy_browser.RUNTIME[0]).as_uri()
    found = in_node(node, home, pictures, runtime=runtime, ready="ready.bin")
    np.testing.assert_allclose(found["ready"], probabilities, atol=SAME_PIXELS)
    ours = [answer["label"] for answer in found["labels"][: len(pictures)]]
    assert ours == [p.label for p in predictions]
    for answer, p in zip(found["answers"], predictions):
        assert answer["female"] == pytest.approx(p.female, abs=OWN_PIXELS)
        assert answer["confidence"] == pytest.approx(p.confidence, abs=OWN_PIXELS)
    assert found["same"]  # whoever asks at the same time


def test_scripts_refuse_with_a_way_out(node: str, tmp_path: Path) -> None:
    home = deploy_browser.browser(zoo.default(), tmp_path)
    (home / "package.json").write_text('{"type": "module"}')
    code = """
    const { Classifier } = await import(process.argv[1]);
    const spec = { input_size: 4, color_order: "bgr", fill: 127 };
    const classifier = new Classifier(null, null, spec);
    const picture = (width, height, length) => ({ width, height, data: new Uint8Array(length) });
    for (const wrong of [
      () => Classifier.load(),
      () => Classifier.open({}, { format: 9 }, new Uint8Array()),
      () => Classifier.open({ env: { wasm: {} } }, { format: 1, file: "m.onnx" }, new Uint8Array()),
      () => classifier.crop(picture(2, 2, 12)),
      () => classifier.crop(picture(0, 2, 0)),
      () => classifier.crop(picture(20000, 1, 80000)),
      () => classifier.predict([new Uint8Array(5)]),
    ]) {
      try { await wrong(); console.log("nothing"); }
      catch (error) { console.log(error.message); }
    }
    """
    lines = run_module(node, code, (home / "classifier.js").as_uri()).splitlines()
    for line, told in zip(
        lines,
        (
            "onnxruntime-web expected at .*npm pack onnxruntime-web.*--runtime",
            "expected format 1, found 9; write",
            r"cannot open m\.onnx .*ort\.wasm\.min\.mjs.*write the folder again",
            "length 12: expected 16, RGBA of 2 x 2; give ImageData",
            "0 x 2 pixels, expected 1 to 16384 a side; crop",
            "20000 x 1 pixels, expected",
            "5 bytes: expected 4 x 4 x 3; make it with",
        ),
    ):
        assert re.search(told, line), line
    assert len(lines) == 7
