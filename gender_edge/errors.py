"""Every error that this package raises on purpose. Each message ends with what to do next."""


class GenderEdgeError(Exception):
    """Base class: catch this to catch everything that gender_edge raises on purpose."""


class ImageError(GenderEdgeError, ValueError):
    """An input is not an image that can be classified (missing, damaged, wrong shape or dtype)."""


class ModelError(GenderEdgeError):
    """A model file is missing, damaged, fails its checksum, or is not of this package."""


class DataError(GenderEdgeError, ValueError):
    """A source, list, folder or file that was named cannot be read or written."""


class ArgumentError(GenderEdgeError, ValueError):
    """An argument has none of the values that are accepted, or does not go with another."""


class BudgetError(ArgumentError):
    """A limit for choosing a model (`budget_ms`, `max_mb`, `min_accuracy`) cannot be right."""


class BackendError(GenderEdgeError, RuntimeError):
    """An inference engine cannot be opened, or failed while running."""
