"""A model as a web page: a static folder that classifies in a browser, with no server code.

The page and its scripts lie in `browser/`, as they are served. ONNX Runtime for the web is not
shipped with this package: it is copied from the npm package onnxruntime-web, here or by the user,
and fetched from nowhere else. Browsers' runtime does not read an ONNX file's metadata, so what the
scripts need of it is written beside the model.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Optional

from . import zoo
from .deploy import write_files
from .engines import spec_of
from .errors import DataError
from .spec import ModelSpec

FORMAT = 1  # of model.json
SOURCES = Path(__file__).parent / "browser"
PAGE = ("index.html", "page.css", "page.js", "classifier.js", "crops.js")
# Of onnxruntime-web's dist: its engine on the CPU alone, which is the smallest.
RUNTIME = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")


def browser(model: str, folder: Path, *, runtime: Optional[Path] = None) -> Path:
    """Write a folder that a web server can serve as it is, if it names .mjs files text/javascript.

    Args:
        model: shipped name or ONNX file.
        folder: what to write into.
        runtime: the unpacked npm package onnxruntime-web, or its dist; None to copy it later, as
            `missing_runtime` says.

    Raises:
        ModelError: the model cannot be read.
        DataError: the runtime is not there, or the folder cannot be written.
    """
    content = zoo.read(model)
    spec = spec_of(content, model)
    return write_files(
        Path(folder) / f"{spec.name}_browser",
        {
            **{name: _source(name) for name in PAGE},
            "model.onnx": content,
            "model.json": json.dumps(_described(spec), indent=2) + "\n",
            "README.md": ABOUT.format(
                name=spec.name, license=spec.license, files="`, `".join(RUNTIME)
            ),
            **_runtime_files(runtime),
        },
    )


def missing_runtime(home: Path) -> Optional[str]:
    """What is still to be copied into a written folder; None if nothing is."""
    if all((home / "runtime" / name).is_file() for name in RUNTIME):
        return None
    return (
        f"{home / 'runtime'}: the page needs {', '.join(RUNTIME)} there; copy them from dist of "
        "the npm package onnxruntime-web (`npm pack onnxruntime-web`, unpacked), or name that "
        "package with --runtime"
    )


def _source(name: str) -> bytes:
    try:
        return (SOURCES / name).read_bytes()
    except OSError as error:
        raise DataError(
            f"{SOURCES / name}: cannot be read ({error}); install gender_edge again"
        ) from error


def _described(spec: ModelSpec) -> dict[str, Any]:
    """What classifier.js needs of the metadata, under the same names."""
    return {
        "format": FORMAT,
        "file": "model.onnx",
        "name": spec.name,
        "labels": spec.labels,
        "input_size": spec.input_size,
        "color_order": spec.color_order,
        "fill": spec.crop.fill,
        "temperature": spec.temperature,
        "abstain_below": dict(spec.abstain_below),
        "license": spec.license,
    }


def _runtime_files(package: Optional[Path]) -> dict[str, bytes]:
    if package is None:
        return {}
    dist = package / "dist" if (package / "dist").is_dir() else package
    try:
        return {f"runtime/{name}": (dist / name).read_bytes() for name in RUNTIME}
    except OSError as error:
        raise DataError(
            f"{package}: expected the unpacked npm package onnxruntime-web, with "
            f"{', '.join(RUNTIME)} in its dist ({error}); get it with `npm pack onnxruntime-web`, "
            "and unpack it"
        ) from error


ABOUT = """\
# {name} in a browser

Apparent gender by the binary labels of data sets, not identity. Weights: {license}.
Pictures never leave the page: it runs the network itself, and may load from its own server only.

`runtime/` has to hold `{files}`
from `dist` of the npm package onnxruntime-web. To look at the page on this machine:

    python3 -m http.server --bind 127.0.0.1 8000

and open http://localhost:8000. Elsewhere any server of files will do that names .mjs files
text/javascript (nginx wants `types {{ text/javascript js mjs; }}` for that); browsers give the
camera only to pages from https:// or localhost.

`classifier.js` (with `crops.js`) is a module of its own, for pages of yours:

    import {{ Classifier, pixelsOf }} from "./classifier.js";
    const classifier = await Classifier.load();
    for (const answer of await classifier.classify([await pixelsOf(file)])) {{
      console.log(answer.label, answer.female); // "female", "male" or null (not sure enough)
    }}

It wants face crops: squares with some hair and neck around the face. Whatever is no face gets an
answer too.
"""
