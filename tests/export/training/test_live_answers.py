from __future__ import annotations

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from export import recipe
from export.build import Places, train_step
from export.data.prepare import learned_from
from export.runs import BUILT, finished
from export.training import live_answers
from export.training.lessons import Lessons
from export.training.live_answers import LiveTeachers
from export.training.train import train
from gender_edge import Classifier, DataError, cropping
from gender_edge.spec import CropRule
from tests.export.conftest import drawing


@pytest.fixture(scope="module")
def views() -> torch.Tensor:
    """Pictures in another size than the teacher's 32 pixels."""
    rng = np.random.default_rng(1)
    return torch.from_numpy(np.stack([drawing(rng, "female")[:48, :48] for _ in range(5)]))


def test_they_say_of_views_what_the_shipped_file_says(
    built: list[str], places: Places, views: torch.Tensor
) -> None:
    run = places.runs / "tiny"
    with Classifier(run / BUILT, device="onnxruntime") as teacher:
        expected = [p.female for p in teacher(list(views.numpy()))]
        temperature = teacher.spec.temperature
    for pixels in (views, views.float() + 0.3):  # floats are what mixing makes
        said = torch.softmax(LiveTeachers([run, run])(pixels) / temperature, 1)
        assert said[:, 0].tolist() == pytest.approx(expected, abs=1e-5)
    assert max(expected) - min(expected) > 1e-4  # or nothing would be compared


def test_the_loss_follows_what_is_seen(
    built: list[str], places: Places, recipe_file: Path, views: torch.Tensor
) -> None:
    """A student that says what they say of these views pays nothing, and of others something."""
    wanted = replace(
        recipe.load(str(recipe_file)), teachers=("tiny",), teachers_see="views", distill_weight=1.0
    )
    packs, _ = learned_from(wanted, places, workers=0)
    lessons = Lessons(wanted, 16, packs, places.runs)
    logits, dark = LiveTeachers([places.runs / "tiny"])(views), torch.zeros_like(views)
    rest = (torch.zeros(5, 16), torch.zeros(5, dtype=torch.long), torch.arange(5))
    assert lessons(logits, *rest, views).item() == pytest.approx(0, abs=1e-6)
    assert lessons(logits, *rest, dark).item() > 1e-3


def test_a_student_learns_from_them(built: list[str], places: Places, recipe_file: Path) -> None:
    student = replace(
        recipe.load(str(recipe_file)),
        name="watched",
        teachers=("tiny",),
        teachers_see="views",
        distill_weight=1.0,
        seed=5,
    )
    train_step(student, places, workers=0)
    rows = (places.runs / "watched" / "metrics.csv").read_text().splitlines()
    assert float(list(csv.DictReader(rows))[-1]["mean"]) > 85


def test_one_without_an_int8_file_answers_in_float(
    built: list[str], places: Places, views: torch.Tensor, tmp_path: Path
) -> None:
    """As its network does in PyTorch, on views in its own size."""
    shutil.copytree(places.runs / "tiny", tmp_path / "tiny")
    shutil.rmtree(tmp_path / "tiny" / "int8")
    (tmp_path / "tiny" / "fp32.onnx").unlink()
    rule = CropRule()
    crops = [
        cropping.cut(view, cropping.face_matrix(view.shape, rule), 32, rule.fill)
        for view in views.numpy()
    ]
    with torch.inference_mode():
        expected = finished(tmp_path / "tiny")(torch.from_numpy(np.stack(crops)))
    said = LiveTeachers([tmp_path / "tiny"])(views)
    torch.testing.assert_close(said, expected, atol=1e-4, rtol=1e-4)


def test_a_second_student_need_not_ask(
    built: list[str],
    places: Places,
    recipe_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Of another kind, but of the same size and seed: it is shown the same views, unless mixed."""
    asked: list[int] = []
    shutil.copytree(places.runs / "tiny", tmp_path / "tiny")
    monkeypatch.setattr(
        live_answers,
        "_answer_of",
        lambda _: lambda views: asked.append(len(views)) or np.ones((len(views), 2), np.float32),
    )
    student = replace(
        recipe.load(str(recipe_file)), teachers=("tiny",), teachers_see="views", seed=7
    )
    packs, _ = learned_from(student, places, workers=0)

    def taught(name: str, few: int, mixing: str = "") -> int:
        arguments = {**student.arguments, "stem": few}
        own = replace(student, name=name, arguments=arguments, mixing=mixing)
        asked.clear()
        train(own, packs, {"faces": packs[0]}, tmp_path / name, workers=0)
        return sum(asked)

    first = taught("first", 8)
    assert first > len(student.sizes) * 100
    assert taught("second", 12) == 0
    (kept,) = (tmp_path / "tiny" / "views").iterdir()
    size = kept.stat().st_size
    assert taught("mixed", 8, "mixup") == first
    assert kept.stat().st_size == size


def test_a_teacher_that_was_not_built(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="python -m export build alone"):
        LiveTeachers([tmp_path / "alone"])
