from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export import graph
from export.architectures import build
from export.compression import int8
from export.compression.int8 import choose, losses
from export.data.packs import Pack, pack
from export.evaluation.int8_card import quantization
from export.validate import by_file, validate
from gender_edge.labelled import read_labelled
from gender_edge.symmetric import symmetric

KEY = "faces/landmarks"
CHILDREN = 60


@pytest.fixture(scope="module")
def faces(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pack]:
    """200 drawings; of either label the first thirty are children, the others say no age."""
    women, men = np.split(np.array(read_labelled(data / "faces"), object), 2)
    young = [replace(s, age=8) for s in (*women[: CHILDREN // 2], *men[: CHILDREN // 2])]
    samples = [*young, *women[30:100], *men[30:100]]
    return {"faces": pack(samples, tmp_path_factory.mktemp("pack") / "faces-val")}


def flipped(children: int, others: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """What FP32 and INT8 judge right: of the children so many turn wrong, as many women as men; of
    the others so many turn right.
    """
    before, after = np.ones(200, bool), np.ones(200, bool)
    before[100 : 100 + others // 2] = before[-(others // 2) or 200 :] = False
    after[: children // 2] = after[30 : 30 + children - children // 2] = False
    return before, after


def chosen(faces: dict[str, Pack], folder: Path) -> dict[str, Any]:
    """The report on int8.onnx of a network that has learned nothing."""
    crops = np.random.default_rng(0).integers(0, 256, (32, 32, 32, 3), np.uint8)
    network = build("slim", {"stem": 8, "widths": [[8]]}, grayscale=False)
    graph.export(network, 32, folder / "fp32.onnx")
    ranges = ("minmax", "percentile")
    return choose(folder / "fp32.onnx", crops, faces, ranges, folder / "int8.onnx")


@pytest.mark.parametrize(("wrong", "counts"), [(4, False), (5, True), (8, True)])
def test_a_group_counts_where_chance_does_not_explain_it(
    faces: dict[str, Pack], wrong: int, counts: bool
) -> None:
    """As many others turn right: the set loses nothing."""
    before, after = flipped(wrong, others=8)
    found = losses({KEY: before}, {KEY: after}, faces)
    (row,) = [r for r in found["groups"] if r["group"] == "faces, age 4 to 12"]
    assert (row["faces"], row["turned_wrong"], row["turned_right"]) == (CHILDREN, wrong, 0)
    assert row["beyond_chance"] == counts
    expected = 100 * wrong / CHILDREN if counts else found["lost"]
    assert found["lost"] <= 0 and found["lost_most"] == pytest.approx(expected, abs=0.01)
    text = quantization({"ranges": "minmax", "validation": {"fp32": {}}, "layers": {}, **found})
    assert ("age 4 to 12" in text) == counts == ("none lost more" not in text)


def test_the_kept_file_loses_least_where_it_loses_most(
    faces: dict[str, Pack],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of two ranges the first is better on the mean, at the cost of children."""
    unfair, fair = flipped(8, others=10)[1], flipped(8, others=10)[0].copy()
    fair[:2] = False
    before = flipped(8, others=10)[0]
    said = iter([before, unfair, unfair, fair, fair])
    monkeypatch.setattr(int8, "judged", lambda *_: {KEY: next(said)})
    report = chosen(faces, tmp_path)
    means = {name: row["mean"] for name, row in report["validation"].items()}
    assert means["minmax"] > means["fp32"] > means["percentile"]
    assert report["ranges"] == "percentile" and report["lost_most"] == pytest.approx(1.0)


def test_the_kept_file_holds_in_the_form_of_tensorrt_too(
    faces: dict[str, Pack], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two ranges the first loses nothing, but children in the symmetric form."""
    before, unfair = flipped(8)
    fair = before.copy()
    fair[:2] = False
    said = iter([before, before, unfair, fair, fair])
    monkeypatch.setattr(int8, "judged", lambda *_: {KEY: next(said)})
    report = chosen(faces, tmp_path)
    assert report["ranges"] == "percentile" and report["lost_most"] == pytest.approx(1.0)
    assert report["symmetric"]["lost_most"] == pytest.approx(1.0)


def test_the_form_of_tensorrt_is_asked_itself(faces: dict[str, Pack], tmp_path: Path) -> None:
    """Its figures are of the network that an engine is built from."""
    report = chosen(faces, tmp_path)
    form = by_file(symmetric((tmp_path / "int8.onnx").read_bytes()))
    found = validate(form, faces, 32, [int8.FRAMING])
    assert report["symmetric"]["validation"]["mean"] == pytest.approx(found["mean"])
    assert f"{found['mean']:.2f} |" in quantization(report).split("in TensorRT's form |")[1]
