"""Checks of arguments that several classes share."""

from __future__ import annotations

from typing import Any

import numpy as np

from .errors import ArgumentError


def counted(name: str, value: Any) -> int:
    """`value` as an int. Raises ArgumentError unless it is a whole number of at least 1."""
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool) and value >= 1:
        return int(value)
    raise ArgumentError(f"{name}={value!r}: expected a whole number from 1")
