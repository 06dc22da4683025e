"""Make probabilities mean what they say, on validation data: temperature and abstention."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from gender_edge.samples import LABELS


def even(counts: Sequence[int]) -> np.ndarray:
    """Weights of the faces of several sets, one set behind the other, by which each set counts the
    same: float64 (sum of counts,).
    """
    return np.concatenate([np.full(count, 1 / count) for count in counts])


def fit_temperature(logits: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> float:
    """The temperature of least negative log-likelihood (Guo et al. 2017).

    Args:
        logits: float (N, 2).
        truth: int (N,), class numbers.
        weights: float (N,), how much each face counts.
    """

    def loss(log_temperature: float) -> float:
        scores = log_softmax(logits / np.exp(log_temperature), axis=1)
        return -float(np.average(scores[np.arange(len(truth)), truth], weights=weights))

    return float(np.exp(minimize_scalar(loss, bounds=(-2, 2), method="bounded").x))


def abstention_thresholds(
    logits: np.ndarray, truth: np.ndarray, weights: np.ndarray, temperature: float, error: float
) -> dict[str, float]:
    """For each label, the least confidence above which at most `error` of its answers are wrong,
    counted by their weights.

    A label that is right often enough without abstaining gets 0.5 (never abstain).
    """
    probabilities = softmax(logits / temperature, axis=1)
    answers = probabilities.argmax(1)
    thresholds = {}
    for number, label in enumerate(LABELS):
        mine = answers == number
        order = np.argsort(-probabilities[mine, number])
        confidence = probabilities[mine, number][order]
        own = weights[mine][order]
        wrong = np.cumsum(own * (truth[mine][order] != number)) / np.cumsum(own)
        within = np.nonzero(wrong <= error)[0]
        everything = not len(wrong) or wrong[-1] <= error
        least = 0.5 if everything else float(confidence[within[-1]]) if len(within) else 1.0
        thresholds[label] = round(least, 4)
    return thresholds
