"""What teachers say of the very views that a student is shown (consistent teaching, Beyer et al.
2022, "Knowledge distillation: A good teacher is patient and consistent").

Of a view that is half hidden or blurred a teacher is less sure than of the whole face, and that is
what the student hears then. It costs a pass of the teachers over every view.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gender_edge import Classifier
from gender_edge.errors import DataError

LEAST = 1e-7  # probability whose logarithm is taken for that of nothing


class LiveTeachers:
    """The mean of what built variants say of pixels, as they run where they are shipped: in INT8 on
    ONNX Runtime, which costs them next to nothing, and without bfloat16 took half of PyTorch's time
    (slim on one thread of a processor with AVX2: 1.1 and 2.4 ms a face).

    Args:
        runs: folders of built or restored runs.

    Raises:
        DataError: of one there is no INT8 model.
    """

    def __init__(self, runs: Sequence[Path]) -> None:
        models = [run / "int8" / "model.onnx" for run in runs]
        for model in models:
            if not model.is_file():
                name = model.parent.parent.name
                raise DataError(
                    f"{model}: is not there; make it with `python -m export build {name}` or "
                    f"`restore {name}`, or take teachers_see = 'faces'"
                )
        threads = torch.get_num_threads()
        self._teachers = [Classifier(m, device="onnxruntime", threads=threads) for m in models]

    def __call__(self, pixels: Tensor) -> Tensor:
        """Logits, float32 (N, 2), but for a constant a row: the mean over the teachers, which see
        the views each in its own size.

        Args:
            pixels: (N, S, S, 3) of 0 to 255, BGR; of any type.
        """
        views = pixels.round().to("cpu", torch.uint8).numpy()
        logits = np.zeros((len(views), 2), np.float32)
        for teacher in self._teachers:
            crops = np.stack([teacher.crop(view) for view in views])
            probabilities = teacher.probabilities(crops)  # of logits / temperature
            logits += teacher.spec.temperature * np.log(probabilities + np.float32(LEAST))
        return torch.from_numpy(logits / len(self._teachers)).to(pixels.device)
