"""Weights as TensorFlow.js packs them: a JSON file that names binary files beside it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


def read_weights(file: Path) -> dict[str, Tensor]:
    """Tensors by name, unpacked from 8 or 16 bits a weight.

    Args:
        file: a weights manifest, or a model of which it is a part.

    Raises:
        OSError, ValueError, LookupError, TypeError: not such a file, or not its binary files.
    """
    content = json.loads(file.read_text())
    manifest = content["weightsManifest"] if isinstance(content, dict) else content
    tensors = {}
    for group in manifest:
        raw = b"".join((file.parent / part).read_bytes() for part in group["paths"])
        offset = 0
        for entry in group["weights"]:
            count, packing = int(np.prod(entry["shape"])), entry.get("quantization")
            kind = np.dtype(packing["dtype"] if packing else entry["dtype"])
            values = np.frombuffer(raw, kind, count, offset).astype(np.float32)
            offset += count * kind.itemsize
            if packing and "scale" in packing:
                values = values * packing["scale"] + packing["min"]
            tensors[entry["name"]] = torch.from_numpy(values.reshape(entry["shape"]))
        if offset != len(raw):
            raise ValueError(f"{len(raw)} bytes of weights, expected {offset}")
    return tensors
