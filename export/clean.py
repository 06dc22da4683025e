"""What looks wrong in labelled sets: copies, pictures without a face, labels that do not fit.

Nothing is changed here. Findings go into a list, which recipes read with `clean = FILE`, and onto
contact sheets to look at. Only pictures to train on are ever dropped. Those of validation and test
are reported: figures without the pictures that a network disagrees with would flatter it.

Labels are doubted by confident learning (Northcutt et al. 2021, cleanlab) on the answers of a
logistic regression that saw neither the picture nor its copies nor its person. What that one goes
by, the embedding of a finished run, was itself learned from the training labels, so those look
better than they are: what is found there stands out even so. On validation and test pictures the
embedding is honest.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

import numpy as np

from gender_edge.errors import DataError
from gender_edge.groups import CHILD, SMALLEST_GROUP
from gender_edge.samples import LABELS

from .data import contact_sheet, findings
from .data.duplicates import Fingerprints, components, near_pairs
from .data.findings import COPY, LABEL, NEAR_COPY, NO_FACE, REASONS, Finding, Pictures
from .data.packs import group
from .data.prepare import Places, packed, stem
from .files import write
from .recipe import Recipe
from .training.answers import answers_of
from .validate import targets

FOLDS = 5


def clean(
    recipe: Recipe, places: Places, out: Path, teacher: Optional[str] = None, workers: int = 1
) -> str:
    """Look through every set of a recipe; returns a table of what was found.

    Args:
        out: folder for `findings.csv`, a contact sheet a set and split, the table (`report.md`)
            and its figures by set and split (`noise.json`), for the cards of what is built later.
        teacher: the finished run whose embeddings labels are doubted by; by default the recipe's
            first teacher, or its own run where it has none.

    Raises:
        DataError: a set cannot be read, the run is not finished, or there is too little to learn.
    """
    # In this order, because the first of several copies stays.
    held_out, learned = (
        [replace(s, weight=1.0) for s in part]
        for part in ((*recipe.test, *recipe.validate), recipe.train)
    )
    pictures = Pictures({s: packed(s, places, workers) for s in (*held_out, *learned)})
    trained = np.array([s not in held_out for s in pictures.sources])[pictures.part]
    run = teacher or (*recipe.teachers, recipe.name)[0]
    embeddings = answers_of([places.runs / run], pictures.packs).embeddings.numpy()
    labels = targets(pictures.samples)
    prints = pictures.fingerprints()
    near = near_pairs(prints, prints)
    copies = components(len(pictures), near)
    said = cross_validated(embeddings, labels, trained, group(pictures.samples, near))
    found = [
        *find_copies(pictures, prints, copies),
        *([] if places.whole else find_faceless(pictures)),  # that says they are crops
        *find_wrong_labels(labels, said, pictures.part, copies),
    ]
    found.sort(key=lambda f: _order(pictures, f))
    findings.write(pictures, found, trained, out / findings.NAME)
    for part, source in enumerate(pictures.sources):
        own = [f for f in found if pictures.part[f.number] == part]
        done = "reported" if source in held_out else "dropped"
        sheet = f"{stem(source.list)}-{source.split}-{done}.png"
        contact_sheet.draw(pictures, own, done, out / sheet)
    rows = _counted(pictures, found, labels, said)
    write(out / findings.NOISE, json.dumps(rows, indent=1) + "\n")
    report = _table(rows) + (
        f"\n\nLabels are doubted by what {run} sees in a face. It was taught with the labels of "
        "the training splits, where\nnoise is therefore underestimated; where it errs itself, "
        "noise is overestimated."
    )
    write(out / findings.REPORT, report + "\n")
    return report


def cross_validated(
    embeddings: np.ndarray, labels: np.ndarray, trained: np.ndarray, groups: np.ndarray
) -> np.ndarray:
    """Probabilities of the labels, float64 (N, 2), by classifiers that saw nothing of a group.

    Args:
        embeddings: float (N, D).
        labels: int64 (N,), classes.
        trained: bool (N,), what may be learned from.
        groups: int (N,), of copies and of pictures of one person.

    Raises:
        DataError: too few groups, or a label is missing in what may be learned from.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    said = np.empty((len(labels), len(LABELS)))
    try:
        for seen, asked in GroupKFold(FOLDS).split(embeddings, groups=groups):
            seen = seen[trained[seen]]
            model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
            model.fit(embeddings[seen], labels[seen])
            said[asked] = model.predict_proba(embeddings[asked])
    except ValueError as error:
        raise DataError(
            f"labels cannot be cross-validated in {FOLDS} parts ({error}); name training sets with "
            "more pictures of both labels"
        ) from error
    return said


def find_copies(pictures: Pictures, prints: Fingerprints, copies: np.ndarray) -> Iterator[Finding]:
    """Every picture of a group of copies but the first.

    Args:
        copies: int (N,), group numbers.
    """
    for first, *others in _several(copies):
        for number in others:
            same = np.array_equal(pictures.image(first), pictures.image(number))
            score = float(prints.thumbnails[first] @ prints.thumbnails[number])
            yield Finding(number, COPY if same else NEAR_COPY, score, first)


def find_faceless(pictures: Pictures) -> Iterator[Finding]:
    """Pictures that have neither box nor landmarks, and are used whole."""
    for number, sample in enumerate(pictures.samples):
        if sample.box is None and sample.landmarks is None:
            yield Finding(number, NO_FACE)


def find_wrong_labels(
    labels: np.ndarray, said: np.ndarray, part: np.ndarray, copies: np.ndarray
) -> Iterator[Finding]:
    """Labels that do not fit their pictures, and all labels of copies that contradict each other.

    Args:
        labels: int64 (N,), as given.
        said: float64 (N, 2), what `cross_validated` returns.
        part: int (N,), the set and split; noise is estimated in each by itself, and not at all
            where there is but one label.
        copies: int (N,), group numbers.
    """
    from cleanlab.filter import find_label_issues

    against: dict[int, Optional[int]] = {}
    for own in (np.flatnonzero(part == p) for p in np.unique(part)):
        if len(np.unique(labels[own])) < len(LABELS):
            continue
        # The strictest rule: looser ones take more faces that are hard, not wrong, and those are
        # mostly children's and of the groups that networks err on.
        rule = "confident_learning"
        doubted = find_label_issues(labels[own], said[own], filter_by=rule, n_jobs=1)
        against.update(dict.fromkeys(own[doubted].tolist()))
    for members in _several(copies):
        for number in members:
            other = next((m for m in members if labels[m] != labels[number]), None)
            if other is not None:
                against[number] = other
    for number, other in against.items():
        yield Finding(number, LABEL, float(said[number, labels[number]]), other)


def _several(groups: np.ndarray) -> list[list[int]]:
    """The members, in their order, of every group that has more than one."""
    order = np.argsort(groups, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)
    return [part.tolist() for part in parts if len(part) > 1]


def _order(pictures: Pictures, finding: Finding) -> tuple[Any, ...]:
    source, reason = pictures.source(finding.number), REASONS.index(finding.reason)
    return source.list, source.split, reason, finding.score, finding.number


def _counted(
    pictures: Pictures, found: list[Finding], labels: np.ndarray, said: np.ndarray
) -> dict[str, dict[str, float]]:
    """By set and split, and again of its children where it has enough of them: the number of
    pictures, of findings by reason, the share of labels that the cross-validated answers miss
    (`error`), and the share that is wrong by the confident joint (`noise`): how much of the error
    is the labels'.
    """
    from cleanlab.count import estimate_joint

    rows = {}
    for name, own in _parts(pictures, labels):
        rows[name] = {
            "pictures": int(own.sum()),
            **{r: sum(bool(own[f.number]) and f.reason == r for f in found) for r in REASONS},
            "error": float(np.mean(said[own].argmax(1) != labels[own])),
            "noise": max(0.0, 1 - float(np.trace(estimate_joint(labels[own], said[own])))),
        }
    return rows


def _parts(pictures: Pictures, labels: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Every set and split with bool (N,) of what is in it, then the same of its children."""
    young = np.array([s.age is not None and s.age < CHILD for s in pictures.samples])
    for part, source in enumerate(pictures.sources):
        name, own = f"{stem(source.list)}:{source.split}", pictures.part == part
        yield name, own
        children = own & young
        if np.bincount(labels[children], minlength=len(LABELS)).min() >= SMALLEST_GROUP:
            yield f"{name}, under {CHILD}", children


def _table(rows: Mapping[str, Mapping[str, float]]) -> str:
    """What was counted, as Markdown."""
    head = ("set:split", "pictures", *REASONS, "error, %", "noise, %")
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    for name, row in rows.items():
        cells = [name, *(str(row[key]) for key in ("pictures", *REASONS))]
        cells += [f"{100 * row[key]:.1f}" for key in ("error", "noise")]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
