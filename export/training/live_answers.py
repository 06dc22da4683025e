"""What teachers say of the very views that a student is shown (consistent teaching, Beyer et al.
2022, "Knowledge distillation: A good teacher is patient and consistent").

Of a view that is half hidden or blurred a teacher is less sure than of the whole face, and that is
what the student hears then. It costs a pass of the teachers over every view. What they said is kept
in their run folders: students that see the same views (drawn and varied alike, of one seed, and in
an epoch of one size) pay for it together. Mixed views are nobody else's, and are not kept.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gender_edge import cropping
from gender_edge.backends.onnx import open_session
from gender_edge.spec import CropRule

from .. import graph
from ..provenance import content_digest
from ..runs import BUILT
from .kept_answers import KeptAnswers

BATCH = 32  # of FP32 networks: what their layers say of more leaves the processor's cache

logger = logging.getLogger(__name__)

Answer = Callable[[np.ndarray], np.ndarray]


class LiveTeachers:
    """The mean of what finished runs say of pixels, each in its own size, on ONNX Runtime.

    Built variants answer as they are shipped: in INT8, which costs them next to nothing, and
    without bfloat16 took half of PyTorch's time (slim on one thread of a processor with AVX2: 1.1
    and 2.4 ms a face). The others, which only teach, answer in FP32.

    Args:
        runs: folders of runs.
        keep: what they say, for others who show the same.

    Raises:
        DataError: one is not finished.
    """

    def __init__(self, runs: Sequence[Path], keep: bool = True) -> None:
        self._teachers = [_teacher(run, keep) for run in runs]

    def __call__(self, pixels: Tensor) -> Tensor:
        """Logits, float32 (N, 2): the mean over the teachers.

        Args:
            pixels: (N, S, S, 3) of 0 to 255, BGR; of any type.
        """
        views = pixels.round().to("cpu", torch.uint8).numpy()
        logits = np.mean([teacher(views) for teacher in self._teachers], 0)
        return torch.from_numpy(logits).to(pixels.device)


def _teacher(run: Path, keep: bool) -> Answer:
    model = run / BUILT
    if not model.is_file():
        model = graph.of_run(run)
        logger.info("%s: there is no INT8 file, it answers in FP32", run)
    answer = _answer_of(model)
    if not keep:
        return answer
    return KeptAnswers(run / "views" / f"{content_digest(model)[:16]}.bin", answer)


def _answer_of(model: Path) -> Answer:
    session = open_session(model.read_bytes(), str(model), threads=torch.get_num_threads())
    (images,), rule = session.get_inputs(), CropRule()
    size = images.shape[1]

    def crop(view: np.ndarray) -> np.ndarray:
        return cropping.cut(view, cropping.whole_matrix(view.shape), size, rule.fill)

    def answer(views: np.ndarray) -> np.ndarray:
        parts = np.array_split(views, -(-len(views) // BATCH))
        crops = (np.stack([crop(view) for view in part]) for part in parts)
        return np.concatenate([session.run(None, {images.name: part})[0] for part in crops])

    return answer
