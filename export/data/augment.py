"""Varied crops for training: the runtime's own crop under random framing and light.

Not half of the crops are aligned by landmarks, the others go by box, by what somebody cut out by
it, or by nothing, because users will have all four. Reference systems get the plain variations that
their authors used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from math import ceil

import cv2
import numpy as np

from gender_edge import cropping
from gender_edge.evaluation import guides
from gender_edge.samples import Sample
from gender_edge.spec import CropRule

Box = tuple[float, ...]  # x, y, width, height in pixels

CUT_OUT = "cut out"  # by a box, so that nothing is left around it
FRAMING_SHARES = {"landmarks": 0.45, "box": 0.2, "whole": 0.15, CUT_OUT: 0.2}
BOX_SCALES = (0.75, 1.6)  # of the set's own boxes: detectors and people who cut faces out differ
LARGEST_BOX = 1.2  # times the shorter side of its picture: beyond, a crop holds next to nothing
TURN = 15.0  # degrees
PLAIN = 0.15  # share of crops whose surroundings are one colour


def framed(sample: Sample, shape: tuple[int, ...], rule: CropRule, framing: str) -> np.ndarray:
    """The crop matrix under one framing, as the runtime would choose it."""
    box, landmarks = guides(sample, framing)
    return cropping.face_matrix(shape, rule, box, landmarks)


def training_crop(
    image: np.ndarray, sample: Sample, rule: CropRule, size: int, rng: np.random.Generator
) -> np.ndarray:
    """One random uint8 (size, size, 3) view of a face."""
    framing = rng.choice(list(FRAMING_SHARES), p=list(FRAMING_SHARES.values()))
    if sample.box is not None and framing in ("box", CUT_OUT):
        box = scaled(sample.box, np.exp(rng.uniform(*np.log(BOX_SCALES))), image.shape)
        sample = replace(sample, box=box)
        image = inside(image, box) if framing == CUT_OUT else image
    matrix = framed(sample, image.shape, rule, "whole" if framing == CUT_OUT else framing)
    jitter = _jitter(rng, loose=framing != "landmarks")
    matrix = (jitter @ np.vstack([matrix, (0, 0, 1)]))[:2]
    crop = degraded(lit(cropping.cut(image, matrix, size, rule.fill), rng), rng)
    if rng.random() < PLAIN:
        behind = np.full_like(crop, rng.integers(0, 256, 3))
        crop = onto(crop, behind, face_mask(size, rule, rng.uniform(0.9, 1.2)))
    return _occlude(crop, rng)


def face_mask(size: int, rule: CropRule, scale: float = 1.0) -> np.ndarray:
    """Where the face is in an aligned crop, without hair and collar: 0 or 1, uint8 (size, size)."""
    eyes, mouth = np.array(rule.landmarks)[:2].mean(0), np.array(rule.landmarks)[3:].mean(0)
    length = np.linalg.norm(mouth - eyes)
    x, y = ((eyes + mouth) / 2 - (0, 0.1 * length)) * size
    half = np.array((0.9, 1.2)) * length * size * scale
    mask = np.zeros((size, size), np.uint8)
    cv2.ellipse(mask, (round(x), round(y)), half.astype(int).tolist(), 0, 0, 360, 1, -1)
    return mask


def onto(crop: np.ndarray, behind: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A crop where the mask is 1, and another one elsewhere: hair and collar must not decide."""
    return np.where(mask[..., None] == 1, crop, behind)


def scaled(box: Box, factor: float, shape: tuple[int, ...]) -> Box:
    """A box (x, y, width, height) that is larger by a factor about the same centre, but not grown
    beyond `LARGEST_BOX` in a picture of that shape.
    """
    x, y, width, height = box
    most = LARGEST_BOX * min(shape[:2]) / max(width, height)
    more = min(factor, max(1.0, most)) - 1
    return x - width * more / 2, y - height * more / 2, width * (1 + more), height * (1 + more)


def inside(image: np.ndarray, box: Box) -> np.ndarray:
    """What a box (x, y, width, height) holds of a picture: at least a pixel."""
    (x, y, width, height), (rows, columns) = box, image.shape[:2]
    left, top = min(max(int(x), 0), columns - 1), min(max(int(y), 0), rows - 1)
    return image[top : max(top + 1, ceil(y + height)), left : max(left + 1, ceil(x + width))]


def _jitter(rng: np.random.Generator, loose: bool) -> np.ndarray:
    """A similarity of the unit square about its centre: zoom, turn, shift, mirror; 3x3."""
    zoom = np.exp(rng.normal(0, 0.12 if loose else 0.09))
    angle = np.radians(rng.normal(0, 8 if loose else 5))
    shift = rng.normal(0, 0.05 if loose else 0.025, 2)
    return _similarity(zoom, angle, shift, mirrored=rng.random() < 0.5)


def _similarity(zoom: float, angle: float, shift: np.ndarray, mirrored: bool) -> np.ndarray:
    """3x3 about the centre of the unit square; the angle in radians, the shift in its sides."""
    cos, sin = zoom * np.cos(angle), zoom * np.sin(angle)
    linear = np.array([[cos, -sin], [sin, cos]]) @ np.diag([-1.0 if mirrored else 1.0, 1.0])
    matrix = np.eye(3)
    matrix[:2, :2] = linear
    matrix[:2, 2] = 0.5 + shift - linear @ (0.5, 0.5)
    return matrix


def plain_crop(
    image: np.ndarray,
    sample: Sample,
    rule: CropRule,
    size: int,
    rng: np.random.Generator,
    zoom: float = 0.0,
) -> np.ndarray:
    """The whole picture turned by up to `TURN`, zoomed by up to `zoom`, mirrored half of the time;
    uint8 (size, size, 3).
    """
    angle, scale = np.radians(rng.uniform(-TURN, TURN)), rng.uniform(1 - zoom, 1 + zoom)
    change = _similarity(scale, angle, np.zeros(2), mirrored=rng.random() < 0.5)
    whole = np.vstack([framed(sample, image.shape, rule, "whole"), (0, 0, 1)])
    return cropping.cut(image, (change @ whole)[:2], size, rule.fill)


def randaugmented_crop(
    image: np.ndarray, sample: Sample, rule: CropRule, size: int, rng: np.random.Generator
) -> np.ndarray:
    """`training_crop`, then two of torchvision's fourteen changes (RandAugment, Cubuk et al. 2020,
    at its default strength); uint8 (size, size, 3).
    """
    import torch  # here: an import of seconds that only this path needs
    from torchvision.transforms import v2

    crop = torch.from_numpy(training_crop(image, sample, rule, size, rng)).permute(2, 0, 1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**31)))
        changed = v2.RandAugment(fill=rule.fill)(crop.flip(0))  # some know colours: RGB
    return np.ascontiguousarray(changed.flip(0).permute(1, 2, 0).numpy())


AUGMENTATIONS: Mapping[str, Callable[..., np.ndarray]] = {
    "ours": training_crop,
    "ours_randaugment": randaugmented_crop,
    "rotate_flip": plain_crop,
    "rotate_zoom_flip": partial(plain_crop, zoom=0.2),
}


def lit(crop: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Brightness, contrast, gamma and colour cast by lookup; at times grey. uint8 (H, W, 3)."""
    if rng.random() < 0.7:
        level = np.arange(256, dtype=np.float32) / 255
        level = level ** np.exp(rng.normal(0, 0.25)) * np.exp(rng.normal(0, 0.2))
        level = (level - 0.5) * np.exp(rng.normal(0, 0.2)) + 0.5
        cast = np.exp(rng.normal(0, 0.06, 3))
        table = np.clip(level[:, None] * cast * 255, 0, 255).astype(np.uint8)
        crop = cv2.LUT(crop, table.reshape(256, 1, 3))
    if rng.random() < 0.1:
        crop = cv2.cvtColor(cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    return crop


def degraded(crop: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What cameras and archives do to a picture: too few pixels, grain, sharpening, JPEG.

    uint8 (H, W, 3) of any size.

    A network that has not seen it takes the grain for a man's skin, and errs on women more than
    on men. `export/evaluation/robustness.py` measures that.
    """
    height, width = crop.shape[:2]
    if rng.random() < 0.15:
        share = rng.uniform(0.3, 0.8)
        fewer = max(12, int(height * share)), max(12, int(width * share))
        crop = _resized(_resized(crop, *fewer), height, width)
    if rng.random() < 0.2:
        grain = rng.standard_normal(crop.shape, np.float32) * np.float32(rng.uniform(2, 14))
        crop = np.clip(crop + grain, 0, 255).astype(np.uint8)
    if rng.random() < 0.1:
        soft = cv2.GaussianBlur(crop, (0, 0), rng.uniform(0.7, 2))
        crop = cv2.addWeighted(crop, 2, soft, -1, 0)
    if rng.random() < 0.35:
        share = rng.uniform(1, 2)  # blocks of other sizes than 8
        larger = _resized(crop, int(height * share), int(width * share))
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.uniform(12, 85))]
        coded = cv2.imencode(".jpg", larger, quality)[1]
        crop = _resized(np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR)), height, width)
    return crop


def _resized(crop: np.ndarray, height: int, width: int) -> np.ndarray:
    smaller = height < crop.shape[0]
    return cv2.resize(
        crop, (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    )


def _occlude(crop: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Random erasing (Zhong et al. 2020): a hand, a phone, a scarf."""
    if rng.random() < 0.15:
        size = crop.shape[0]
        height, width = (size * rng.uniform(0.15, 0.45, 2)).astype(int)
        y, x = int(rng.uniform(0, size - height)), int(rng.uniform(0, size - width))
        crop[y : y + height, x : x + width] = rng.integers(0, 256, 3)
    return crop


def evaluation_crop(
    image: np.ndarray, sample: Sample, rule: CropRule, size: int, framing: str = "landmarks"
) -> np.ndarray:
    """The crop that the runtime makes of this sample."""
    matrix = framed(sample, image.shape, rule, framing)
    return cropping.cut(image, matrix, size, rule.fill)
