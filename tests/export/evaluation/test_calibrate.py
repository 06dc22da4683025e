from __future__ import annotations

import numpy as np
import pytest

from export.evaluation.calibrate import abstention_thresholds, even, fit_temperature

COUNTS = (6000, 300)


@pytest.fixture(scope="module")
def answers() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A large set on which a network is four times too modest, a small one of four times too bold:
    logits, classes, weights.
    """
    rng = np.random.default_rng(0)
    log_odds = rng.normal(0, 2, sum(COUNTS))
    scale = np.repeat((4.0, 0.25), COUNTS)
    female = rng.random(sum(COUNTS)) < 1 / (1 + np.exp(-log_odds * scale))
    logits = np.stack([log_odds, np.zeros_like(log_odds)], 1)
    return logits, np.where(female, 0, 1), even(COUNTS)


def test_each_set_says_as_much_of_the_temperature(
    answers: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    logits, truth, _ = answers
    times = np.repeat((1, COUNTS[0] // COUNTS[1]), COUNTS)  # as if the small one were as large
    repeated = np.repeat(logits, times, 0), np.repeat(truth, times), np.ones(2 * COUNTS[0])
    assert fit_temperature(*answers) == pytest.approx(fit_temperature(*repeated), rel=1e-3)
    assert fit_temperature(*answers) > 2 * fit_temperature(logits, truth, np.ones(len(truth)))


def test_each_set_says_as_much_of_what_is_withheld(
    answers: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    """The mean over sets of what is wrong among labels given is within the limit, and near it."""
    logits, truth, weights = answers
    limits = abstention_thresholds(*answers, 1.0, 0.15)
    female = 1 / (1 + np.exp(logits[:, 1] - logits[:, 0]))
    for number, label in enumerate(("female", "male")):
        confidence = female if number == 0 else 1 - female
        given = confidence >= max(limits[label], 0.5) - 1e-4
        wrong = np.average(truth[given] != number, weights=weights[given])
        assert 0.14 < wrong < 0.155  # one face of the small set is 0.4 points
        assert (truth[given] != number).mean() < 0.05  # the pool would not have withheld any
