"""Arguments that several classes check alike."""

from __future__ import annotations

from typing import Any

import numpy as np

from .errors import ArgumentError


def counted(name: str, value: Any) -> int:
    """An argument that counts something, as an int.

    Raises:
        ArgumentError: no whole number from 1.
    """
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool) and value >= 1:
        return int(value)
    raise ArgumentError(f"{name}={value!r}: expected a whole number from 1")
