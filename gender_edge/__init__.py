"""Apparent gender of faces, fast and in little memory, on cameras and small devices.

    >>> import gender_edge
    >>> classifier = gender_edge.Classifier()
    >>> classifier(["face.jpg"])[0].label

Labels are the binary labels of the training sets: what a face appears as to annotators, not who
someone is.
"""

from .classifier import Classifier, Prediction
from .engines import build_engine
from .errors import (
    ArgumentError,
    BackendError,
    BudgetError,
    DataError,
    GenderEdgeError,
    ImageError,
    ModelError,
)
from .spec import CropRule, ModelSpec

__version__ = "0.1.0"

__all__ = [
    "ArgumentError",
    "BackendError",
    "BudgetError",
    "Classifier",
    "CropRule",
    "DataError",
    "GenderEdgeError",
    "ImageError",
    "ModelError",
    "ModelSpec",
    "Prediction",
    "build_engine",
]
