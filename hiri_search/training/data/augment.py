"""Batched augmentation on the device: crop, flip, colour jitter, random erasing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import permutations

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor
from torch.nn import functional

from hiri_search.training.recipe import Recipe

ATTEMPTS = 10  # at a rectangle that lies inside; timm's number for crops and for erasing
CROP_RATIOS = (3 / 4, 4 / 3)  # width to height; torchvision's and timm's
ERASED_AREAS, ERASED_RATIOS = (0.02, 1 / 3), (0.3, 1 / 0.3)  # timm's, of the net's input; height to width
GREY = (0.299, 0.587, 0.114)  # ITU-R 601, as Pillow and torchvision have it
JITTER_ORDERS = tuple(permutations(range(3)))
BRIGHTNESS, CONTRAST, SATURATION = range(3)


@dataclass(frozen=True)
class AugmentParams:
    """What is done to each of B stored_images; tensors on the CPU."""

    box: Tensor  # (B, 4) long: top, left, height and width of the crop, in pixels of the stored image
    flip: Tensor  # (B,) bool
    factors: Tensor  # (B, 3) of brightness, contrast and saturation; 1: as it is
    order: Tensor  # (B, 3) in which of these three come
    erased: Tensor  # (B, 4) long: top, left, height and width, in pixels of the result; 0 high: nothing
    noise: Tensor  # (3 * side**2,) normal numbers for what is erased, or (0,)
    shift: Tensor  # (B,) long: where in the noise a image begins


@dataclass(frozen=True)
class _Chances:
    """Numbers from 0 to under 1, a row for each image: a knob that is turned moves no other's."""

    crop: Tensor  # (B, 2 * ATTEMPTS + 2)
    erasing: Tensor  # (B, 2 * ATTEMPTS + 2)
    flip: Tensor  # (B,)
    factors: Tensor  # (B, 3)
    order: Tensor  # (B,)
    erased: Tensor  # (B,)
    shift: Tensor  # (B,)


def sample_params(count: int, stored: int, side: int, recipe: Recipe, rng: torch.Generator) -> AugmentParams:
    """How `count` stored_images of `stored` pixels a side are looked at in training; `rng` is of the CPU."""
    seed = int(torch.randint(2**31, (), generator=rng))
    chances = _chances(count, rng)
    orders = torch.tensor(JITTER_ORDERS)[(chances.order * len(JITTER_ORDERS)).long()]
    factors = 1 + (2 * chances.factors - 1) * recipe.jitter
    erased = _rectangles(chances.erasing, side, ERASED_AREAS, ERASED_RATIOS, whole=False)
    erased *= (chances.erased < recipe.erasing)[:, None]
    return AugmentParams(
        box=_rectangles(chances.crop, stored, (recipe.crop, 1.0), CROP_RATIOS, whole=True),
        flip=chances.flip < recipe.flip,
        factors=factors.clamp(min=0),
        order=orders,
        erased=erased,
        noise=_noise(seed, side, erased),
        shift=(chances.shift * 3 * side**2).long(),
    )


def center_crop_params(count: int, stored: int, share: float) -> AugmentParams:
    """The middle of each image, about `share` of its side high and wide, and nothing else: for validation."""
    edge = round(stored * (1 - share) / 2)  # the same on all sides
    return AugmentParams(
        box=torch.tensor([edge, edge, stored - 2 * edge, stored - 2 * edge]).expand(count, 4),
        flip=torch.zeros(count, dtype=torch.bool),
        factors=torch.ones(count, 3),
        order=torch.arange(3).expand(count, 3),
        erased=torch.zeros(count, 4, dtype=torch.long),
        noise=torch.zeros(0),
        shift=torch.zeros(count, dtype=torch.long),
    )


def augment(stored_images: Tensor, looks: AugmentParams, side: int) -> Tensor:
    """Images (B, S, S, 3), whole numbers from 0 to 255, as a network sees them: normalised (B, 3, side, side).

    On the device of `stored_images`, in channels-last memory.
    """
    images = _resampled(stored_images, looks, side)
    if (looks.factors != 1).any():  # asked on the CPU, without waiting for the device
        images = _coloured(images, looks)
    return _erase(_normalised(images), looks)


# ---- chance


def _chances(count: int, rng: torch.Generator) -> _Chances:
    box = 2 * ATTEMPTS + 2
    numbers = torch.rand((count, 2 * box + 7), generator=rng, dtype=torch.float64)
    crop, erasing, factors, rest = torch.split(numbers, [box, box, 3, 4], 1)
    return _Chances(crop, erasing, rest[:, 0], factors.float(), *rest[:, 1:].unbind(1))


def _rectangles(
    chances: Tensor, side: int, areas: tuple[float, float], ratios: tuple[float, float], *, whole: bool
) -> Tensor:
    """(B, 4) top, left, height and width in whole pixels of a square: for each row the first attempt that fits.

    Where none does: the whole square, or nothing. Ratios are of crops, width to height; they are even under their
    logarithm, so that it does not matter which way round.
    """
    area, ratio, place = torch.split(chances, [ATTEMPTS, ATTEMPTS, 2], 1)
    area = (areas[0] + area * (areas[1] - areas[0])) * side**2
    low, high = math.log(ratios[0]), math.log(ratios[1])
    ratio = torch.exp(low + ratio * (high - low))
    height, width = (area / ratio).sqrt().round().long(), (area * ratio).sqrt().round().long()  # (B, ATTEMPTS)
    fits = (height <= side) & (width <= side) if whole else (height < side) & (width < side)
    first = fits.int().argmax(1, keepdim=True)
    otherwise = side if whole else 0
    size = torch.cat([one.gather(1, first) for one in (height, width)], 1)
    size = torch.where(fits.any(1, keepdim=True), size, otherwise)
    return torch.cat([(place * (side - size + 1)).long(), size], 1)


def _noise(seed: int, side: int, erased: Tensor) -> Tensor:
    """As much as one image may need: the stored_images of a batch begin at different places of it."""
    if not erased.any():
        return torch.zeros(0)
    return torch.randn(3 * side**2, generator=torch.Generator().manual_seed(seed))


# ---- cropping


def _resampled(stored_images: Tensor, looks: AugmentParams, side: int) -> Tensor:
    """The crops at another side, whole numbers from 0 to 255: (B, 3, side, side), channels-last."""
    if stored_images.device.type == "cpu":
        return _in_turn(stored_images, looks, side)
    return _at_once(stored_images, looks, side).round_().contiguous(memory_format=torch.channels_last)


def _in_turn(stored_images: Tensor, looks: AugmentParams, side: int) -> Tensor:
    """One image after the other, by torch's program for whole numbers: on one core 7 times as fast as `_at_once`."""
    images = torch.empty((len(stored_images), side, side, 3), dtype=torch.uint8)
    for index, (top, left, height, width) in enumerate(looks.box.tolist()):
        crop = stored_images[index, top : top + height, left : left + width].permute(2, 0, 1)[None]  # (1, 3, h, w)
        shown = functional.interpolate(crop, (side, side), mode="bilinear", antialias=True)[0]
        images[index] = (shown.flip(2) if looks.flip[index] else shown).permute(1, 2, 0)
    return images.permute(0, 3, 1, 2).float()


def _at_once(stored_images: Tensor, looks: AugmentParams, side: int) -> Tensor:
    """All of them as two batched matrix products, not rounded."""
    count, stored = stored_images.shape[:2]
    box = looks.box.to(stored_images.device, non_blocking=True)
    flip = looks.flip.to(stored_images.device, non_blocking=True)[:, None, None]
    down = _weights(box[:, 0], box[:, 2], stored, side)  # (B, side, S)
    across = _weights(box[:, 1], box[:, 3], stored, side)
    across = torch.where(flip, across.flip(1), across)
    rows = torch.bmm(down, stored_images.reshape(count, stored, stored * 3).float())  # (B, side, S * 3)
    rows = rows.view(count, side, stored, 3).permute(0, 3, 1, 2).reshape(count, 3 * side, stored)
    return torch.bmm(rows, across.transpose(1, 2)).view(count, 3, side, side)


def _weights(start: Tensor, length: Tensor, stored: int, side: int) -> Tensor:
    """How much of each stored pixel is in each pixel of the result, along one axis: (B, side, S), rows of sum 1.

    A triangle around the middle of the result's pixel, as wide as two of the wider pixels, over the crop alone:
    bilinear resampling with antialiasing (Pillow, Resample.c; torchvision's `antialias=True`).
    """
    scale = (length / side)[:, None, None]
    wanted = torch.arange(side, device=start.device)[None, :, None] + 0.5
    pixels = torch.arange(stored, device=start.device)[None, None, :] + 0.5
    there = pixels - start[:, None, None]  # from the crop's edge
    weights = (1 - (there - wanted * scale).abs() / scale.clamp(min=1)).clamp_(min=0)
    weights *= (there > 0) & (there < length[:, None, None])
    return weights / weights.sum(2, keepdim=True)


# ---- colour


def _coloured(images: Tensor, looks: AugmentParams) -> Tensor:
    """Each step a mixture with black, with the mean grey, or with the grey of each pixel, as torchvision has it."""
    factors, order = (table.to(images.device, non_blocking=True) for table in (looks.factors, looks.order))
    images = images.contiguous()  # colours apart: much faster than three numbers at a time
    for step in range(3):
        which = order[:, step]
        factor = factors.gather(1, which[:, None])[:, :, None, None]
        grey = GREY[0] * images[:, :1] + GREY[1] * images[:, 1:2] + GREY[2] * images[:, 2:]  # (B, 1, H, W)
        mean = grey.mean((2, 3), keepdim=True)
        is_contrast, is_saturation = ((which == one)[:, None, None, None] for one in (CONTRAST, SATURATION))
        other = is_contrast * mean + is_saturation * grey
        images = torch.lerp(other, images, factor).clamp_(0, 255)
    return images.contiguous(memory_format=torch.channels_last)


def _normalised(images: Tensor) -> Tensor:
    """From 0 to 255 to ImageNet's mean 0 and spread 1; row by row, which is much faster than pixel by pixel."""
    count, _, height, width = images.shape
    mean, std = (torch.tensor(values).repeat(width) for values in (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD))
    shift, scale = (row.to(images.device, non_blocking=True) for row in (-mean / std, 1 / (255 * std)))
    rows = images.permute(0, 2, 3, 1).reshape(count, height, width * 3)  # no copy: channels-last
    return torch.addcmul(shift, rows, scale).view(count, height, width, 3).permute(0, 3, 1, 2)


# ---- erasing


def _erase(images: Tensor, looks: AugmentParams) -> Tensor:
    """Noise in a rectangle of some of the stored_images (`pixel` of timm's modes), in place."""
    chosen = looks.erased[:, 2].nonzero()[:, 0]  # on the CPU
    if not len(chosen):
        return images
    _, channels, side, _ = images.shape
    start, box, noise, at = (
        table.to(images.device, non_blocking=True)
        for table in (looks.shift[chosen], looks.erased[chosen], looks.noise, chosen)
    )
    # From each start to the end, and on from the beginning.
    grain = torch.cat([noise, noise]).unfold(0, len(noise), 1)[start].view(-1, channels, side, side)
    inside = _within(box[:, 0], box[:, 2], side)[:, :, None] & _within(box[:, 1], box[:, 3], side)[:, None, :]
    images[at] = torch.where(inside[:, None], grain, images[at])
    return images


def _within(start: Tensor, length: Tensor, side: int) -> Tensor:
    """(B, side): which pixels of one axis lie in the rectangle."""
    pixels = torch.arange(side, device=start.device)[None, :]
    return (pixels >= start[:, None]) & (pixels < (start + length)[:, None])
