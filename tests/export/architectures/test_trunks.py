from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from export.architectures import VGG
from export.architectures.trunks import Trunks, load_vgg
from gender_edge import DataError

WIDTHS = [[8], [8]]


def convolutions() -> dict[str, Tensor]:
    """As the published ones are named."""
    torch.manual_seed(0)
    return {f"features.{k}": v for k, v in VGG(WIDTHS).features.state_dict().items()}


def test_convolutions_are_read(tmp_path: Path) -> None:
    save_file(convolutions(), tmp_path / "vgg.safetensors")
    network = VGG(WIDTHS)
    Trunks(vgg16=tmp_path / "vgg.safetensors").load(network)
    torch.testing.assert_close(network.features[0].weight, convolutions()["features.0.weight"])


def test_what_is_no_trunk_is_refused(tmp_path: Path) -> None:
    """Damaged, of another network, or torchvision's own, which expects other pixels."""
    file, whole = tmp_path / "vgg.safetensors", convolutions()
    contents = {
        "other": {"stem.weight": torch.zeros(3)},
        "narrow": {k: v[:4].contiguous() for k, v in whole.items()},
        "torchvision": {**whole, "classifier.0.weight": torch.zeros(3)},
    }
    file.write_bytes(b"")
    with pytest.raises(DataError, match="--init FILE takes safetensors of VGG's convolutions"):
        Trunks(vgg16=file).load(VGG(WIDTHS))
    for content in contents.values():
        save_file(content, file)
        with pytest.raises(DataError, match=r"(?s)--age-trunk FILE takes .* imagenet:FILE"):
            load_vgg(VGG(WIDTHS), file, "--age-trunk FILE")


@pytest.mark.parametrize("content", [b"", b"text", None], ids=["empty", "text", "a list"])
def test_what_is_no_state_dict_is_refused(content: bytes | None, tmp_path: Path) -> None:
    file = tmp_path / "vgg.pth"
    if content is None:
        torch.save([1], file)
    else:
        file.write_bytes(content)
    with pytest.raises(DataError, match="imagenet:FILE"):
        Trunks(imagenet=file).load_imagenet(VGG(WIDTHS))
