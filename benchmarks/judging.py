"""Accuracy of a subject on labelled sets, by `gender_edge.evaluation`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gender_edge import evaluation, images
from gender_edge.labelled import read_labelled
from gender_edge.samples import Sample

from .subjects import Face, Subject, trimmed

AT_ONCE = 32  # faces


def judge(subject: Subject, lists: Sequence[str], split: str | None) -> dict[str, Any]:
    """Figures of `evaluation.report` by set, under `sets`.

    Args:
        lists: labelled folders or lists, as `gender_edge.labelled` reads them.
        split: of those, for lists that have some; None for all.
    """
    figures: dict[str, Any] = {}
    for each in lists:
        figures[_name(each, lists, figures)] = trimmed(
            evaluation.report(_outcome(subject, read_labelled(each, split)))
        )
    return {"sets": figures}


def _name(path: str, lists: Sequence[str], taken: dict[str, Any]) -> str:
    """Lists of the same name in several folders (annotated.csv) go by their folders'."""
    stem = Path(path).stem
    alone = [Path(other).stem for other in lists].count(stem) == 1
    name = stem if alone else Path(path).parent.name
    return path if name in taken else name


def _outcome(subject: Subject, samples: Sequence[Sample]) -> evaluation.Outcome:
    def cut(sample: Sample) -> Any:
        pixels = images.decode(sample.read(), sample.name)
        return subject.prepare([Face(pixels, sample.box, sample.landmark_array())])

    def answer(inputs: list[Any]) -> list[float]:
        return list(subject.female(subject.run(np.concatenate(inputs))))

    kept, female, failures = evaluation.answered(samples, cut, answer, AT_ONCE)
    return evaluation.Outcome(kept, np.array(female), np.ones(len(kept), bool), failures)
