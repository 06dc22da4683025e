"""What a model says about itself: the metadata that travels inside every ONNX file.

Nothing here is guessed from shapes or node names. The workshop writes a `ModelSpec` into the
file's `metadata_props`; the runtime reads it back and refuses a file that has none. This module
knows nothing about images or engines.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Optional, Union

from .errors import ModelError

TASK = "apparent-gender"
DETECTION = "face-detection"
METADATA_KEY = "gender_edge"
FORMAT_VERSION = 1
PRECISIONS = ("fp32", "fp16", "int8")


@dataclass(frozen=True)
class CropRule:
    """How a face becomes the square that a network sees. All lengths are in units of its side.

    Attributes:
        landmarks: where the five points (the eye on the viewer's left, the other eye, nose tip,
            mouth corners in the same order) of an upright face come to lie, x right, y down.
        box_margin: side of the square, as a multiple of the longer side of a detector's box,
            when there are no landmarks. The square is centred on the box and not rotated.
        fill: grey level (0 to 255) of what lies outside the picture.
    """

    landmarks: tuple[tuple[float, float], ...] = (
        (0.350, 0.420),
        (0.650, 0.420),
        (0.500, 0.600),
        (0.370, 0.745),
        (0.630, 0.745),
    )
    box_margin: float = 1.17
    fill: int = 127


@dataclass(frozen=True)
class ModelSpec:
    """Everything the runtime needs to know of a network, and a user about its origin.

    Attributes:
        name: `arch[_gray][_pNN]_precision`, the one string that names the model everywhere.
        labels: names of the two classes, in the order of the network's logits.
        input_size: side of the square uint8 NHWC input, in pixels.
        color_order: order of the three input channels, "bgr" or "rgb".
        grayscale: whether the network sees luminance alone, which its graph takes from the colours.
        crop: how a face becomes that square.
        temperature: logits are divided by this before the softmax (Guo et al. 2017), fitted on
            validation data.
        abstain_below: no label is given where P(label) is below this, by class.
        precision: "fp32", "fp16" or "int8".
        parameters, macs: counted for one face, on the network before quantisation.
        trained_on: data sets and splits that the weights have seen.
        origin: what else the weights started or learned from: published trunks, teachers.
        license: terms of the weights.
        revision: git revision of the workshop that made the file.
    """

    name: str
    labels: tuple[str, str]
    input_size: int
    precision: str
    color_order: str = "bgr"
    grayscale: bool = False
    crop: CropRule = field(default_factory=CropRule)
    temperature: float = 1.0
    abstain_below: Mapping[str, float] = field(default_factory=dict)
    parameters: int = 0
    macs: int = 0
    trained_on: tuple[str, ...] = ()
    origin: str = ""
    license: str = ""
    revision: str = ""

    def to_json(self) -> str:
        """The JSON text that goes into `metadata_props`."""
        return _text(TASK, self)

    @classmethod
    def from_json(cls, text: Optional[str], source: str) -> ModelSpec:
        """Read what `to_json` wrote; `source` names the file in errors.

        Raises:
            ModelError: there is no text, it is not this package's, or of another format.
        """
        raw = _entries(text, TASK, cls, source)
        try:
            crop = raw.pop("crop")
            crop["landmarks"] = tuple((float(x), float(y)) for x, y in crop["landmarks"])
            first, second = raw.pop("labels")
            raw["trained_on"] = tuple(raw.get("trained_on", ()))
            spec = cls(labels=(first, second), crop=CropRule(**crop), **raw)
            spec._check()
            return spec
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _wrong(error, TASK, source) from error

    @classmethod
    def of_model(
        cls, text: Optional[str], input_type: str, input_shape: Sequence[Any], source: str
    ) -> ModelSpec:
        """Read a model's metadata and hold it against the input that an engine found.

        Args:
            text: what stands under `METADATA_KEY`; None where nothing does.
            input_type, input_shape: of the network's first input; bytes are "u8".
            source: names the file in errors.

        Raises:
            ModelError: no such metadata, or it describes another input.
        """
        spec = cls.from_json(text, source)
        expected = [spec.input_size, spec.input_size, 3]
        if input_type != "u8" or list(input_shape[1:]) != expected:
            raise ModelError(
                f"{source}: expected uint8 input (N, {expected}), found {input_type} "
                f"{list(input_shape)}; export it again"
            )
        return spec

    def _check(self) -> None:
        """Raise ValueError or TypeError where a value cannot be worked with."""
        if set(self.labels) != {"female", "male"}:
            raise ValueError(f"labels {self.labels}, expected female and male")
        if not re.fullmatch(r"\w[\w.-]*", self.name):  # it names files and folders
            raise ValueError(f"name {self.name!r}, expected letters, digits, _, . and -")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision {self.precision!r}, expected {', '.join(PRECISIONS)}")
        if type(self.input_size) is not int or len(self.crop.landmarks) != 5:
            raise ValueError(
                "expected input_size as a whole number, and five landmarks of the crop"
            )
        if self.color_order not in ("bgr", "rgb"):
            raise ValueError(f"color_order {self.color_order!r}, expected bgr or rgb")
        if not (self.temperature > 0 and self.input_size > 0 and self.crop.box_margin > 0):
            raise ValueError("temperature, input_size and box_margin must be positive")
        if any(not 0 <= limit <= 1 for limit in self.abstain_below.values()):
            raise ValueError(f"abstain_below {self.abstain_below}, expected shares")


@dataclass(frozen=True)
class DetectorSpec:
    """Everything the runtime needs to know of a face detector, and a user about its origin.

    Its outputs are one map per stride, float (N, 15, rows, columns): logit of the score; centre of
    the box from the middle of the cell, x and y, in strides; log of width and height in strides;
    five landmarks from the middle of the cell, x and y, in strides.

    Attributes:
        name: `architecture_precision`.
        strides: px of the input for each cell, an entry for each output, in their order.
        minimum_score: answers below are none, chosen on validation frames.
        precision, parameters, trained_on, origin, license, revision: as in `ModelSpec`.
        macs: counted for a frame of 320 x 240, on the network before quantisation.
    """

    name: str
    strides: tuple[int, ...]
    minimum_score: float
    precision: str
    parameters: int = 0
    macs: int = 0
    trained_on: tuple[str, ...] = ()
    origin: str = ""
    license: str = ""
    revision: str = ""

    def to_json(self) -> str:
        """The JSON text that goes into `metadata_props`."""
        return _text(DETECTION, self)

    @classmethod
    def of_model(
        cls, text: Optional[str], input_type: str, input_shape: Sequence[Any], source: str
    ) -> DetectorSpec:
        """Read a detector's metadata; arguments and errors are those of `ModelSpec.of_model`."""
        raw = _entries(text, DETECTION, cls, source)
        try:
            raw["strides"] = tuple(int(stride) for stride in raw["strides"])
            raw["trained_on"] = tuple(raw.get("trained_on", ()))
            spec = cls(**raw)
            if not spec.strides or min(spec.strides) < 1 or not 0 < spec.minimum_score < 1:
                raise ValueError("strides and minimum_score must be positive, the latter below 1")
        except (KeyError, TypeError, ValueError) as error:
            raise _wrong(error, DETECTION, source) from error
        if input_type != "u8" or len(input_shape) != 4 or input_shape[3] != 3:
            raise ModelError(
                f"{source}: expected uint8 input (N, H, W, 3), found {input_type} "
                f"{list(input_shape)}; {_REMEDIES[DETECTION]}"
            )
        return spec


_REMEDIES = {
    TASK: "export the model again with `python -m export build`",
    DETECTION: "export the detector again with `python -m export detector`",
}


def _text(task: str, spec: Union[ModelSpec, DetectorSpec]) -> str:
    """The metadata of a model that was made for a task, as `_entries` reads it."""
    return json.dumps({"task": task, "format": FORMAT_VERSION, **asdict(spec)}, sort_keys=True)


def _entries(text: Optional[str], task: str, kind: Any, source: str) -> dict[str, Any]:
    """What stands in the metadata of a model that was made for a task: entries of `kind`."""
    if text is None:
        what = "not one" if task == TASK else "no face detector"
        raise ModelError(
            f"{source}: an ONNX model, but {what} of gender_edge (no {METADATA_KEY!r} metadata); "
            f"{_REMEDIES[task]}"
        )
    try:
        raw: dict[str, Any] = json.loads(text)
        found, version = raw.pop("task"), raw.pop("format")
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ModelError(
            f"{source}: its metadata is not readable ({error}); {_REMEDIES[task]}"
        ) from error
    if found != task or version != FORMAT_VERSION:
        raise ModelError(
            f"{source}: expected task {task!r} in format {FORMAT_VERSION}, found {found!r} in "
            f"format {version!r}; use a model exported for this version of gender_edge"
        )
    if unknown := set(raw) - {f.name for f in fields(kind)}:
        raise ModelError(
            f"{source}: metadata has unknown entries {sorted(unknown)}; the file was made by a "
            "newer gender_edge: upgrade this one"
        )
    return raw


def _wrong(error: Exception, task: str, source: str) -> ModelError:
    return ModelError(f"{source}: metadata is incomplete or wrong ({error}); {_REMEDIES[task]}")
