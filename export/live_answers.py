"""What teachers say of the very views that a student is shown (consistent teaching, Beyer et al.
2022, "Knowledge distillation: A good teacher is patient and consistent").

Of a view that is half hidden or blurred a teacher is less sure than of the whole face, and that is
what the student hears then. It costs a pass of the teachers over every view; what they said is kept
in their run folders, so that students which see the same views (of one size and seed, with the same
pictures) pay for it together.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gender_edge import Classifier, cropping
from gender_edge.backends.onnx import open_session
from gender_edge.errors import DataError
from gender_edge.spec import CropRule

from . import graph
from .files import digest
from .kept_answers import KeptAnswers
from .runs import BUILT, WEIGHTS, trained_size

LEAST = 1e-7  # probability whose logarithm is taken for that of nothing
BATCH = 32  # for one that is not built: what its layers say of more leaves the processor's cache

logger = logging.getLogger(__name__)

Answer = Callable[[np.ndarray], np.ndarray]


class LiveTeachers:
    """The mean of what finished runs say of pixels, each in its own size, on ONNX Runtime.

    Built variants answer as they are shipped: in INT8, which costs them next to nothing, and
    without bfloat16 took half of PyTorch's time (slim on one thread of a processor with AVX2: 1.1
    and 2.4 ms a face). The others, which only teach, answer in FP32.

    Args:
        runs: folders of runs.

    Raises:
        DataError: one is not finished.
    """

    def __init__(self, runs: Sequence[Path]) -> None:
        threads = torch.get_num_threads()
        self._teachers = [_teacher(run, threads) for run in runs]

    def __call__(self, pixels: Tensor) -> Tensor:
        """Logits, float32 (N, 2), but for a constant a row: the mean over the teachers.

        Args:
            pixels: (N, S, S, 3) of 0 to 255, BGR; of any type.
        """
        views = pixels.round().to("cpu", torch.uint8).numpy()
        logits = np.mean([teacher(views) for teacher in self._teachers], 0)
        return torch.from_numpy(logits).to(pixels.device)


def _teacher(run: Path, threads: int) -> KeptAnswers:
    model = run / BUILT
    if model.is_file():
        answer = _as_shipped(Classifier(model, device="onnxruntime", threads=threads))
    elif (run / WEIGHTS).is_file():
        logger.info("%s: there is no INT8 file, it answers in FP32", run)
        model = graph.of_run(run)
        answer = _in_float(model, trained_size(run), threads)
    else:
        raise DataError(
            f"{run}: no finished run; make it with `python -m export build {run.name}`, or "
            f"`restore {run.name}` if it is shipped"
        )
    return KeptAnswers(run / "views" / f"{digest(model)[:16]}.bin", answer)


def _as_shipped(classifier: Classifier) -> Answer:
    def answer(views: np.ndarray) -> np.ndarray:
        probabilities = classifier.probabilities(np.stack([classifier.crop(v) for v in views]))
        logits = np.log(probabilities + np.float32(LEAST))  # of logits / temperature
        return np.asarray(classifier.spec.temperature * logits, np.float32)

    return answer


def _in_float(model: Path, size: int, threads: int) -> Answer:
    session, rule = open_session(model.read_bytes(), str(model), threads=threads), CropRule()

    def crop(view: np.ndarray) -> np.ndarray:
        return cropping.cut(view, cropping.face_matrix(view.shape, rule), size, rule.fill)

    def answer(views: np.ndarray) -> np.ndarray:
        parts = np.array_split(views, -(-len(views) // BATCH))
        crops = (np.stack([crop(view) for view in part]) for part in parts)
        return np.concatenate([session.run(None, {graph.INPUT: part})[0] for part in crops])

    return answer
