from __future__ import annotations

import pytest
import torch

from export.precision import autocast
from gender_edge import host


@pytest.mark.parametrize(
    ("features", "computed"),
    [
        (["avx2"], torch.float32),
        (["avx2", "avx512f", "avx512_vnni"], torch.float32),
        (["avx2", "avx512f", "avx512_bf16", "amx_int8"], torch.bfloat16),
        ([], torch.float32),
    ],
)
def test_bfloat16_only_where_the_processor_has_it(
    features: list[str], computed: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "features", lambda: features)
    with autocast(torch.device("cpu")):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == computed
