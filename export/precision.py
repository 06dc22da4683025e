"""What networks compute on and in here: a GPU if there is one; bfloat16 where that is fast, else
float32.
"""

from __future__ import annotations

import torch

from gender_edge import host

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
BFLOAT16 = "avx512_bf16"  # processors with AMX have it too


def autocast(device: torch.device) -> torch.autocast:
    """The context to run a network in: bfloat16 on a GPU, and on processors that compute in it.

    Others only emulate it: without AVX-512, a training of slim took 13 times as long as in float32.
    """
    pays = device.type != "cpu" or BFLOAT16 in host.features()
    return torch.autocast(device.type, torch.bfloat16, enabled=pays)
