"""`Classifier`: a name or a path in, predictions out. Knows nothing of how a network is run."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, Literal, Optional, Union, overload

import numpy as np

from . import cropping, gpu_arrays, images
from .arguments import counted
from .backends import ResidentBackend
from .errors import ArgumentError, ImageError
from .opening import open_backend
from .spec import ModelSpec

DEFAULT_BATCH = 64


@dataclass(frozen=True)
class Prediction:
    """Apparent gender of one face, as the binary labels of the training sets have it.

    Attributes:
        label: "female", "male", or None where the model abstains (`confidence` is below the
            threshold that its metadata names).
        female: calibrated probability of the label "female", 0 to 1.
        confidence: probability of the likelier label, 0.5 to 1.
    """

    label: Optional[str]
    female: float
    confidence: float


class Classifier:
    """Classifies the apparent gender of faces. Safe to call from many threads.

    Example:
        >>> with Classifier() as classifier:
        ...     for p in classifier(["a.jpg", crop_bgr, crop_bytes]):
        ...         print(p.label, p.female, p.confidence)
    """

    def __init__(
        self,
        model: Optional[Union[str, os.PathLike[str]]] = None,
        *,
        device: str = "auto",
        threads: Optional[int] = None,
        batch_size: int = DEFAULT_BATCH,
        build: bool = False,
    ) -> None:
        """Load a model and run it once, so that the first call is as fast as the others.

        Args:
            model: the name of a shipped model, or the path of a model file (anything with a
                suffix or a slash is a path); None for the shipped default, in INT8 where the
                engine computes it as such, else in FP32. A path that ends in .engine or .plan is
                opened by TensorRT.
            device: "auto" takes the model's cached TensorRT engine where TensorRT and a GPU are,
                else ONNX Runtime on CUDA, else "cpu": OpenVINO where it is installed, else ONNX
                Runtime; a warning says why, if a GPU stays unused. "tensorrt", "cuda", "openvino"
                and "onnxruntime" (the last two on the CPU) take that or raise. `backend` and
                `provider` say what was taken.
            threads: for the CPU; None for all cores.
            batch_size: most faces that are run at once; longer inputs are split (a TensorRT engine
                splits ready crops by the largest batch that it was built for). For full batches
                OpenVINO compiles smaller networks once more, which takes a tenth of a second.
            build: build the TensorRT engine first if none that fits is in the cache (minutes).

        Raises:
            ModelError: the model is missing, damaged, or of another task.
            BackendError: the device cannot be had.
            ArgumentError: `model` is no name or path, `device` another word, `build` set where no
                engine can be built; `threads` or `batch_size` is no whole number from 1.
        """
        batch_size = counted("batch_size", batch_size)
        threads = None if threads is None else counted("threads", threads)
        if not isinstance(model, (str, os.PathLike, type(None))):
            raise ArgumentError(f"model={model!r}: expected a shipped name or a path")
        named = None if model is None else os.fspath(model)
        self.name, self._backend = open_backend(named, device, threads, build, batch_size)
        self.batch_size = batch_size
        spec = self._backend.spec
        self._female = spec.labels.index("female")
        self._limits = np.array([spec.abstain_below.get(label, 0.0) for label in spec.labels])
        for faces in (1, 2):  # an engine may have ways of its own for one face
            self._backend.run(np.zeros((faces, spec.input_size, spec.input_size, 3), np.uint8))

    @classmethod
    def best(
        cls,
        budget_ms: Optional[float] = None,
        *,
        max_mb: Optional[float] = None,
        min_accuracy: Optional[float] = None,
        device: str = "auto",
        threads: Optional[int] = None,
        batch_size: int = DEFAULT_BATCH,
    ) -> Classifier:
        """Open the fastest of the most accurate shipped models within a budget, on the engine that
        answers sooner.

        Takes the recorded latency of one face on this processor and engine, and where there is no
        record measures each model here, a third of a second each. See `choose.best`.

        Raises:
            BudgetError: a limit is no number, or not in its unit.
            ModelError: none fits; says how near each comes.
            BackendError: the device cannot be had.
            ArgumentError: `device` is another word, or `threads` no whole number from 1.
        """
        from . import choose  # here: it needs this module

        found = choose.best(
            budget_ms, max_mb=max_mb, min_accuracy=min_accuracy, device=device, threads=threads
        )
        return cls(found.name, device=found.engine, threads=threads, batch_size=batch_size)

    @property
    def spec(self) -> ModelSpec:
        """What the model says about itself."""
        return self._backend.spec

    @property
    def backend(self) -> str:
        """The engine and its version."""
        return self._backend.name

    @property
    def provider(self) -> str:
        """What the engine computes on, as it says itself."""
        return self._backend.provider

    def __repr__(self) -> str:
        return (
            f"Classifier({self.name!r}, backend={self.backend!r}, provider={self.provider!r}, "
            f"precision={self.spec.precision!r})"
        )

    @overload
    def __call__(
        self, faces: Any, *, color: str = ..., errors: Literal["raise"] = ...
    ) -> list[Prediction]: ...

    @overload
    def __call__(
        self, faces: Any, *, color: str = ..., errors: str
    ) -> list[Union[Prediction, ImageError]]: ...

    def __call__(
        self, faces: Any, *, color: str = "bgr", errors: str = "raise"
    ) -> Union[list[Prediction], list[Union[Prediction, ImageError]]]:
        """Classify face crops.

        Args:
            faces: one crop, a list or other iterable of them (of any sizes), or one uint8 array
                (N, H, W, C). A crop is a path, the bytes of a file, a uint8 array of shape (H, W),
                (H, W, 1), (H, W, 3) or (H, W, 4), or a PIL image. What is not square is cut, and
                filled with grey, to the square of its area.
            color: channel order of arrays, "bgr" (OpenCV's) or "rgb".
            errors: "raise", or "return" to put the error of a bad image in its place.

        Returns:
            One `Prediction` per face, in order; also for a single crop.

        Raises:
            ImageError: an input is not a usable image (its number is in the message).
            ArgumentError: `color` or `errors` is another word.
        """
        images.check_color(color)  # also where there are no faces
        cut = partial(self.crop, color=color)
        return self.classify_cuts((partial(cut, face) for face in _items(faces)), errors)

    @overload
    def in_frame(
        self,
        frame: images.Image,
        boxes: Optional[Iterable[Any]] = ...,
        landmarks: Optional[Iterable[Any]] = ...,
        *,
        color: str = ...,
        errors: Literal["raise"] = ...,
    ) -> list[Prediction]: ...

    @overload
    def in_frame(
        self,
        frame: images.Image,
        boxes: Optional[Iterable[Any]] = ...,
        landmarks: Optional[Iterable[Any]] = ...,
        *,
        color: str = ...,
        errors: str,
    ) -> list[Union[Prediction, ImageError]]: ...

    def in_frame(
        self,
        frame: images.Image,
        boxes: Optional[Iterable[Any]] = None,
        landmarks: Optional[Iterable[Any]] = None,
        *,
        color: str = "bgr",
        errors: str = "raise",
    ) -> Union[list[Prediction], list[Union[Prediction, ImageError]]]:
        """Classify the faces of one frame, cut by the model's own crop rule.

        Args:
            frame: as a crop in `__call__`.
            boxes: (N, 4) x, y, width, height in pixels, as a face detector gives them; of files,
                bytes and PIL images in pixels of the picture as EXIF turns it upright.
            landmarks: (N, 5, 2) in pixels: the eye on the viewer's left, the other eye, nose tip,
                mouth corners in the same order. Where given, faces are aligned by them.
            color: channel order of an array frame.
            errors: "raise", or "return" to put the error of a face that cannot be cut (an empty
                box, say) in its place.

        Returns:
            One `Prediction` per face, in order; none for no faces.

        Raises:
            ImageError: frame, boxes or landmarks are not usable, or differ in number.
            ArgumentError: `color` or `errors` is another word.
        """
        pixels = images.load(frame, color)
        faces = [_listed(part, name) for part, name in ((boxes, "boxes"), (landmarks, "landmarks"))]
        given = [part for part in faces if part is not None]
        if not given:
            raise ImageError(
                "in_frame needs boxes or landmarks; for a face crop call the classifier itself"
            )
        if len(given[0]) != len(given[-1]):
            raise ImageError(
                f"{len(given[0])} boxes but {len(given[-1])} sets of landmarks; give one of each"
            )
        pairs = zip(*(part or [None] * len(given[0]) for part in faces))
        cuts = (partial(self._crop_face, pixels, box, points) for box, points in pairs)
        return self.classify_cuts(cuts, errors)

    def _crop_face(self, pixels: np.ndarray, box: Any, landmarks: Any) -> np.ndarray:
        if box is None and landmarks is None:
            raise ImageError("neither a box nor landmarks; leave this face out")
        return self.crop(pixels, box=box, landmarks=landmarks)

    def classify_cuts(
        self, cuts: Iterable[Callable[[], np.ndarray]], errors: str = "raise"
    ) -> list[Union[Prediction, ImageError]]:
        """Cut and run batch by batch, so that a long list never lies in memory as pixels.

        Args:
            cuts: each makes one crop, as `crop` does, or raises ImageError.
            errors: as in `__call__`.

        Returns:
            One answer per cut, in order.

        Raises:
            ImageError: a crop cannot be made (its number is in the message).
            ArgumentError: `errors` is another word.
        """
        if errors not in ("raise", "return"):
            raise ArgumentError(f"errors={errors!r}: expected 'raise' or 'return'")
        results: list[Union[Prediction, ImageError]] = []
        for chunk in _chunks(cuts, self.batch_size):
            crops, failures = [], {}
            for number, cut in enumerate(chunk):
                try:
                    crops.append(cut())
                except ImageError as error:
                    if errors == "raise":
                        raise ImageError(f"face {len(results) + number}: {error}") from error
                    failures[number] = ImageError(str(error))  # its traceback holds the picture
            predictions = iter(self.predict(np.stack(crops)) if crops else [])
            results += [failures.get(n) or next(predictions) for n in range(len(chunk))]
        return results

    def crop(
        self,
        image: images.Image,
        *,
        box: Optional[Sequence[float]] = None,
        landmarks: Optional[Any] = None,
        color: str = "bgr",
    ) -> np.ndarray:
        """What the network sees of one face: uint8 (S, S, 3) in the model's colour order.

        Args:
            image: as a crop in `__call__`.
            box, landmarks: of one face, as in `in_frame`; without them the image is a face crop.
            color: channel order of an array.

        Raises:
            ImageError: image, box or landmarks are not usable.
            ArgumentError: `color` is another word.
        """
        pixels = images.load(image, color)
        spec = self.spec
        matrix = cropping.face_matrix(pixels.shape, spec.crop, box, landmarks)
        crop = cropping.cut(pixels, matrix, spec.input_size, spec.crop.fill)
        return crop if spec.color_order == "bgr" else crop[:, :, ::-1]

    def predict(self, crops: Any) -> list[Prediction]:
        """Run the network on ready crops; see `probabilities`, which is the same as an array."""
        return [self._prediction(row) for row in self.probabilities(crops).tolist()]

    def probabilities(self, crops: Any) -> np.ndarray:
        """Calibrated probabilities, float32 (N, 2), in the order of `spec.labels`.

        Args:
            crops: uint8 (N, S, S, 3) in the model's colour order: what `crop` made, stacked; or,
                with a TensorRT engine, an array that lies on its GPU already (PyTorch, CuPy, Numba,
                pycuda): it is read there, without a copy.

        Raises:
            ImageError: of another type or shape.
        """
        logits = self._logits(crops) / np.float32(self.spec.temperature)
        odds = np.exp(logits - logits.max(1, keepdims=True))
        return np.asarray(odds / odds.sum(1, keepdims=True))

    def _logits(self, crops: Any) -> np.ndarray:
        size = self.spec.input_size
        if isinstance(crops, np.ndarray):
            if crops.dtype == np.uint8 and crops.ndim == 4 and crops.shape[1:] == (size, size, 3):
                return self._run(np.ascontiguousarray(crops))
            found = f"{crops.dtype} {crops.shape}"
        elif gpu_arrays.on_gpu(crops):
            if isinstance(self._backend, ResidentBackend):
                return self._backend.run_resident(crops)
            raise ImageError(
                f"crops lie on a GPU and {self!r} does not read there; open a TensorRT engine, or "
                "bring them to NumPy first"
            )
        else:
            found = type(crops).__name__
        raise ImageError(
            f"crops {found}: expected uint8 (N, {size}, {size}, 3), what Classifier.crop makes "
            "under np.stack"
        )

    def _run(self, crops: np.ndarray) -> np.ndarray:
        """No more than `batch_size` at once; TensorRT's engine splits by its own largest batch, and
        overlaps the parts.
        """
        step = self.batch_size
        if len(crops) <= step or isinstance(self._backend, ResidentBackend):
            return self._backend.run(crops)
        parts = [self._backend.run(crops[n : n + step]) for n in range(0, len(crops), step)]
        return np.concatenate(parts)

    def _prediction(self, row: list[float]) -> Prediction:
        confidence = max(row)
        best = row.index(confidence)
        label = self.spec.labels[best] if confidence >= self._limits[best] else None
        return Prediction(label, row[self._female], confidence)

    def close(self) -> None:
        """Free the engine; the classifier cannot be used afterwards."""
        self._backend.close()

    def __enter__(self) -> Classifier:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _listed(part: Optional[Iterable[Any]], name: str) -> Optional[list[Any]]:
    if part is None:
        return None
    try:
        return list(part)
    except TypeError as error:
        raise ImageError(f"{name} {part!r}: expected one for each face") from error


def _items(faces: Any) -> Iterable[Any]:
    """A single crop becomes a list of one; a 4-D array is a batch already."""
    if isinstance(faces, np.ndarray):
        if faces.dtype.kind in "OSU":  # names, or crops of several sizes
            return list(faces.ravel())
        return faces if faces.ndim == 4 else [faces]
    if isinstance(faces, (str, os.PathLike, bytes, bytearray, memoryview)) or hasattr(
        faces, "convert"
    ):
        return [faces]
    if not isinstance(faces, Iterable):
        raise ImageError(
            f"cannot read faces from {type(faces).__name__}; give a crop or a list of crops"
        )
    return faces


def _chunks(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk
