from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from export.recipe import Recipe
from export.runs import WEIGHTS, remember
from export.training import answers
from export.training.answers import Answers
from export.training.lessons import Lessons
from gender_edge import DataError

VIEWS = torch.zeros(5, 16, 16, 3, dtype=torch.uint8)
SAID = Answers(torch.tensor([[2.0, -2.0], [-1.0, 1.0], [0.5, 0.0]]), torch.eye(3, 4))


def _recipe(**changes: object) -> Recipe:
    common = {
        "name": "student",
        "architecture": "slim",
        "arguments": {"stem": 8, "widths": [[8]]},
        "input_size": 16,
        "sizes": (16,),
        "train": (),
        "validate": (),
        "test": (),
        "license": "none",
    }
    return Recipe(**{**common, **changes})  # type: ignore[arg-type]


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("export.training.lessons.answers_of", lambda runs, packs: SAID)


def test_without_teachers_it_is_cross_entropy() -> None:
    logits, labels = torch.randn(5, 2), torch.tensor([0, 1, 1, 0, 1])
    lessons = Lessons(_recipe(), 8, [], Path())
    loss = lessons(logits, torch.randn(5, 8), labels, torch.arange(5), VIEWS)
    assert loss.item() == pytest.approx(torch.nn.functional.cross_entropy(logits, labels).item())


def test_a_perfect_student_pays_nothing(said: None) -> None:
    """It says what the teachers said of just these pictures, and sees what they see."""
    lessons = Lessons(_recipe(teachers=("a",), distill_weight=1.0, hint_weight=3.0), 4, [], Path())
    torch.nn.init.eye_(lessons.map.weight)
    torch.nn.init.zeros_(lessons.map.bias)
    numbers = torch.tensor([2, 0])
    seen = SAID.embeddings[numbers]
    seen = torch.cat([seen, torch.zeros(2, 4 - seen.shape[1])], 1)
    labels = torch.tensor([1, 1])
    logits, rest = SAID.logits[numbers], (labels, numbers, VIEWS)
    assert lessons(logits, seen, *rest).item() == pytest.approx(0, abs=1e-6)
    assert lessons(logits.flip(0), seen, *rest).item() > 0.1
    assert lessons(logits, seen.flip(0), *rest).item() > 1


def test_the_share_of_teachers_is_weighed(said: None) -> None:
    logits, labels, numbers = torch.randn(3, 2), torch.tensor([0, 1, 0]), torch.arange(3)
    loss = {
        share: Lessons(_recipe(teachers=("a",), distill_weight=share), 4, [], Path())(
            logits, torch.randn(3, 4), labels, numbers, VIEWS
        ).item()
        for share in (0.0, 0.5, 1.0)
    }
    assert loss[0.5] == pytest.approx((loss[0.0] + loss[1.0]) / 2, rel=1e-5)


def test_of_mixed_pictures_a_mixture_is_expected(said: None) -> None:
    """Of labels, of what teachers say and of what they see alike."""
    lessons = Lessons(_recipe(teachers=("a",), distill_weight=0.5, hint_weight=1.0), 4, [], Path())
    numbers, labels = torch.arange(2), torch.tensor([0, 1])
    logits, embedding = torch.randn(2, 2), torch.randn(2, 4)
    swapped = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    alone = lessons(logits, embedding, labels.flip(0), numbers.flip(0), VIEWS).item()
    mixed = lessons(logits, embedding, labels, numbers, VIEWS, swapped).item()
    assert mixed == pytest.approx(alone)
    same, halves = logits[:1].expand(2, 2), torch.full((2, 2), 0.5)
    by_labels = Lessons(_recipe(), 4, [], Path())
    ends = [by_labels(same, embedding, labels[[i, i]], numbers, VIEWS).item() for i in range(2)]
    both = by_labels(same, embedding, labels, numbers, VIEWS, halves)
    assert both.item() == pytest.approx(sum(ends) / 2)


def test_teachers_are_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another asking finds what was kept; other weights of the same name are asked anew."""
    asked = []

    class Kept:
        folder = tmp_path / "pack"

        def derived(self, name: str) -> Path:
            return tmp_path / name

    def ask(teacher: torch.nn.Module, pack: Kept, size: int) -> Answers:
        asked.append(size)
        return Answers(SAID.logits * len(asked), SAID.embeddings)

    monkeypatch.setattr(answers, "ask", ask)
    run = tmp_path / "teacher"
    with pytest.raises(DataError, match="no finished run"):
        answers.answers_of([run], [Kept()])  # type: ignore[list-item]
    network = _finish(run, seed=0)
    for _ in range(2):
        found = answers.answers_of([run], [Kept()])  # type: ignore[list-item]
        assert asked == [16] and torch.equal(found.logits, SAID.logits)
    assert network != _finish(run, seed=1)
    answers.answers_of([run], [Kept()])  # type: ignore[list-item]
    assert asked == [16, 16]


def _finish(run: Path, seed: int) -> bytes:
    from export.architectures import build

    wanted = _recipe(name="teacher")
    remember(wanted, run)
    torch.manual_seed(seed)
    save_file(build("slim", wanted.arguments, False).state_dict(), run / WEIGHTS)
    return (run / WEIGHTS).read_bytes()
