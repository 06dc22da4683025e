"""Make probabilities mean what they say, on validation data: temperature and abstention."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from gender_edge.labelled import LABELS


def fit_temperature(logits: np.ndarray, truth: np.ndarray) -> float:
    """The temperature of least negative log-likelihood (Guo et al. 2017).

    Args:
        logits: float (N, 2).
        truth: int (N,), class numbers.
    """

    def loss(log_temperature: float) -> float:
        scores = log_softmax(logits / np.exp(log_temperature), axis=1)
        return -float(scores[np.arange(len(truth)), truth].mean())

    return float(np.exp(minimize_scalar(loss, bounds=(-2, 2), method="bounded").x))


def abstention_thresholds(
    logits: np.ndarray, truth: np.ndarray, temperature: float, error: float
) -> dict[str, float]:
    """For each label, the least confidence above which at most `error` of its answers are wrong.

    A label that is right often enough without abstaining gets 0.5 (never abstain).
    """
    probabilities = softmax(logits / temperature, axis=1)
    answers = probabilities.argmax(1)
    thresholds = {}
    for number, label in enumerate(LABELS):
        mine = answers == number
        order = np.argsort(-probabilities[mine, number])
        confidence = probabilities[mine, number][order]
        wrong = np.cumsum(truth[mine][order] != number) / np.arange(1, mine.sum() + 1)
        within = np.nonzero(wrong <= error)[0]
        everything = not len(wrong) or wrong[-1] <= error
        least = 0.5 if everything else float(confidence[within[-1]]) if len(within) else 1.0
        thresholds[label] = round(least, 4)
    return thresholds
