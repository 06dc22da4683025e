"""Shared by the modules that derive one ONNX file from another."""

from __future__ import annotations

from types import ModuleType

from .errors import BackendError


def onnx_package() -> ModuleType:
    """The `onnx` package, which only rewriting a network needs; the `tensorrt` extra brings it.

    Raises:
        BackendError: it is missing.
    """
    try:
        import onnx
    except ImportError as error:
        raise BackendError(f"rewriting a network needs onnx ({error}): pip install onnx") from error
    return onnx  # type: ignore[no-any-return]
