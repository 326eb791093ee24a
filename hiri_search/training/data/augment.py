"""Batched augmentation on the device: crop, flip, colour jitter, random erasing."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from itertools import permutations

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor
from torch.nn import functional

from hiri_search.training.recipe import Recipe

ATTEMPTS = 10  # random rectangles tried until one fits; timm's number for crops and for erasing
CROP_RATIOS = (3 / 4, 4 / 3)  # width to height; as in torchvision and timm
ERASED_AREAS, ERASED_RATIOS = (0.02, 1 / 3), (0.3, 1 / 0.3)  # timm's: share of the network's input; height to width
GREY = (0.299, 0.587, 0.114)  # weights of red, green and blue (ITU-R 601), as in Pillow and torchvision
JITTER_ORDERS = tuple(permutations(range(3)))
BRIGHTNESS, CONTRAST, SATURATION = range(3)


@dataclass(frozen=True)
class AugmentParams:
    """Augmentation parameters of a batch of B images, on the CPU."""

    crop_box: Tensor  # (B, 4) long: top, left, height and width in pixels of the stored image
    flip: Tensor  # (B,) bool
    jitter_factors: Tensor  # (B, 3): factor of brightness, contrast and saturation; 1: no change
    jitter_order: Tensor  # (B, 3): order in which these three factors are applied
    erased_box: Tensor  # (B, 4) long: top, left, height and width in pixels of the output; height 0: nothing is erased
    noise: Tensor  # (3 * side**2,) standard normal values for the erased pixels, or (0,)
    noise_start: Tensor  # (B,) long: index in `noise` at which the values of each image begin

    def of(self, rows: Tensor) -> AugmentParams:
        """Return the parameters of some images of the batch."""
        by_image = {each.name: getattr(self, each.name)[rows] for each in fields(self) if each.name != "noise"}
        return replace(self, **by_image)


@dataclass(frozen=True)
class _RandomNumbers:
    """Uniform random numbers in [0, 1), one row per image.

    Every augmentation has its own columns: a changed setting leaves the numbers of the other augmentations unchanged.
    """

    crop: Tensor  # (B, 2 * ATTEMPTS + 2)
    erased_box: Tensor  # (B, 2 * ATTEMPTS + 2)
    flip: Tensor  # (B,)
    jitter_factors: Tensor  # (B, 3)
    jitter_order: Tensor  # (B,)
    is_erased: Tensor  # (B,)
    noise_start: Tensor  # (B,)


def sample_params(count: int, stored: int, side: int, recipe: Recipe, rng: torch.Generator) -> AugmentParams:
    """Random training parameters for `count` images stored at `stored` x `stored` pixels; `rng` is a CPU generator."""
    seed = int(torch.randint(2**31, (), generator=rng))
    numbers = _random_numbers(count, rng)
    orders = torch.tensor(JITTER_ORDERS)[(numbers.jitter_order * len(JITTER_ORDERS)).long()]
    factors = 1 + (2 * numbers.jitter_factors - 1) * recipe.jitter
    erased_box = _random_boxes(numbers.erased_box, side, ERASED_AREAS, ERASED_RATIOS, allow_whole=False)
    erased_box *= (numbers.is_erased < recipe.erasing)[:, None]
    # The images of a batch share the noise of one whole image, and each begins at another index.
    noise = torch.zeros(0)
    if erased_box.any():
        noise = torch.randn(3 * side**2, generator=torch.Generator().manual_seed(seed))
    return AugmentParams(
        crop_box=_random_boxes(numbers.crop, stored, (recipe.crop, 1.0), CROP_RATIOS, allow_whole=True),
        flip=numbers.flip < recipe.flip,
        jitter_factors=factors.clamp(min=0),
        jitter_order=orders,
        erased_box=erased_box,
        noise=noise,
        noise_start=(numbers.noise_start * 3 * side**2).long(),
    )


def center_crop_params(count: int, stored: int, share: float) -> AugmentParams:
    """Validation parameters: a centre crop of about `share` of the stored side, and no other augmentation."""
    margin = round(stored * (1 - share) / 2)  # equal on all four sides
    return AugmentParams(
        crop_box=torch.tensor([margin, margin, stored - 2 * margin, stored - 2 * margin]).expand(count, 4),
        flip=torch.zeros(count, dtype=torch.bool),
        jitter_factors=torch.ones(count, 3),
        jitter_order=torch.arange(3).expand(count, 3),
        erased_box=torch.zeros(count, 4, dtype=torch.long),
        noise=torch.zeros(0),
        noise_start=torch.zeros(count, dtype=torch.long),
    )


def augment(stored_images: Tensor, params: AugmentParams, side: int) -> Tensor:
    """Turn stored images (B, S, S, 3), integers from 0 to 255, into network inputs (B, 3, side, side), normalised.

    The result is on the device of `stored_images`, in channels-last memory format.
    """
    if stored_images.device.type == "cpu":
        images = _resize_per_image(stored_images, params, side)
    else:
        images = _resize_batched(stored_images, params, side).round_().contiguous(memory_format=torch.channels_last)
    if (params.jitter_factors != 1).any():  # a CPU tensor: this test does not synchronise with the GPU
        images = _jitter_colours(images, params)
    return _erase(normalise(images), params)


def _random_numbers(count: int, rng: torch.Generator) -> _RandomNumbers:
    columns = 2 * ATTEMPTS + 2
    numbers = torch.rand((count, 2 * columns + 7), generator=rng, dtype=torch.float64)
    crop, erased_box, factors, rest = torch.split(numbers, [columns, columns, 3, 4], 1)
    return _RandomNumbers(crop, erased_box, rest[:, 0], factors.float(), *rest[:, 1:].unbind(1))


def _random_boxes(
    numbers: Tensor, side: int, areas: tuple[float, float], ratios: tuple[float, float], *, allow_whole: bool
) -> Tensor:
    """Random boxes (B, 4) in a square image: top, left, height and width in pixels; the first attempt that fits.

    With `allow_whole` a box may be as high or wide as the image, and is the whole image if no attempt fits. Otherwise
    a box is smaller, and empty if no attempt fits. The areas and the logarithms of the ratios (width to height) are
    uniform; `ratios` are symmetric about 1, so height to width has the same distribution.
    """
    area, ratio, position = torch.split(numbers, [ATTEMPTS, ATTEMPTS, 2], 1)
    area = (areas[0] + area * (areas[1] - areas[0])) * side**2
    low, high = math.log(ratios[0]), math.log(ratios[1])
    ratio = torch.exp(low + ratio * (high - low))
    height, width = (area / ratio).sqrt().round().long(), (area * ratio).sqrt().round().long()  # (B, ATTEMPTS)
    fits = (height <= side) & (width <= side) if allow_whole else (height < side) & (width < side)
    first = fits.int().argmax(1, keepdim=True)
    size = torch.cat([edge.gather(1, first) for edge in (height, width)], 1)
    size = torch.where(fits.any(1, keepdim=True), size, side if allow_whole else 0)
    return torch.cat([(position * (side - size + 1)).long(), size], 1)


def _resize_per_image(stored_images: Tensor, params: AugmentParams, side: int) -> Tensor:
    """Crop, resize and flip image by image with torch's uint8 kernel: 7 times as fast as `_resize_batched` on one core.

    The result is (B, 3, side, side), integers from 0 to 255 as floats, channels-last.
    """
    images = torch.empty((len(stored_images), side, side, 3), dtype=torch.uint8)
    for index, (top, left, height, width) in enumerate(params.crop_box.tolist()):
        crop = stored_images[index, top : top + height, left : left + width].permute(2, 0, 1)[None]  # (1, 3, h, w)
        resized = functional.interpolate(crop, (side, side), mode="bilinear", antialias=True)[0]
        images[index] = (resized.flip(2) if params.flip[index] else resized).permute(1, 2, 0)
    return images.permute(0, 3, 1, 2).float()


def _resize_batched(stored_images: Tensor, params: AugmentParams, side: int) -> Tensor:
    """Crop, resize and flip the whole batch by two batched matrix products; the result is not rounded."""
    count, stored = stored_images.shape[:2]
    box = params.crop_box.to(stored_images.device, non_blocking=True)
    flip = params.flip.to(stored_images.device, non_blocking=True)[:, None, None]
    vertical = _resize_weights(box[:, 0], box[:, 2], stored, side)  # (B, side, S)
    horizontal = _resize_weights(box[:, 1], box[:, 3], stored, side)
    horizontal = torch.where(flip, horizontal.flip(1), horizontal)
    rows = torch.bmm(vertical, stored_images.reshape(count, stored, stored * 3).float())  # (B, side, S * 3)
    rows = rows.view(count, side, stored, 3).permute(0, 3, 1, 2).reshape(count, 3 * side, stored)
    return torch.bmm(rows, horizontal.transpose(1, 2)).view(count, 3, side, side)


def _resize_weights(start: Tensor, length: Tensor, stored: int, side: int) -> Tensor:
    """Weight of each stored pixel in each output pixel along one axis: (B, side, S); each row sums to 1.

    Bilinear resampling with antialiasing: a triangle filter around the centre of the output pixel, with a half-width
    of one output or stored pixel, the larger of the two, cut off at the crop's edges (Pillow, Resample.c;
    torchvision's `antialias=True`).
    """
    scale = (length / side)[:, None, None]
    output = torch.arange(side, device=start.device)[None, :, None] + 0.5
    pixels = torch.arange(stored, device=start.device)[None, None, :] + 0.5
    offset = pixels - start[:, None, None]  # from the crop's edge
    weights = (1 - (offset - output * scale).abs() / scale.clamp(min=1)).clamp_(min=0)
    weights *= (offset > 0) & (offset < length[:, None, None])
    return weights / weights.sum(2, keepdim=True)


def _jitter_colours(images: Tensor, params: AugmentParams) -> Tensor:
    """Blend each image with black (brightness), its mean grey (contrast) and its grey image (saturation).

    The three steps are torchvision's, in each image's own order.
    """
    factors, order = (x.to(images.device, non_blocking=True) for x in (params.jitter_factors, params.jitter_order))
    images = images.contiguous()  # one plane per colour: much faster than interleaved colours
    for position in range(3):
        step = order[:, position]
        factor = factors.gather(1, step[:, None])[:, :, None, None]
        grey = GREY[0] * images[:, :1] + GREY[1] * images[:, 1:2] + GREY[2] * images[:, 2:]  # (B, 1, H, W)
        mean = grey.mean((2, 3), keepdim=True)
        is_contrast, is_saturation = ((step == kind)[:, None, None, None] for kind in (CONTRAST, SATURATION))
        blend = is_contrast * mean + is_saturation * grey
        images = torch.lerp(blend, images, factor).clamp_(0, 255)
    return images.contiguous(memory_format=torch.channels_last)


def normalise(images: Tensor) -> Tensor:
    """Scale 0 to 255 by ImageNet's mean and standard deviation; by rows, which is much faster than by pixels."""
    count, _, height, width = images.shape
    mean, std = (torch.tensor(values).repeat(width) for values in (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD))
    shift, scale = (row.to(images.device, non_blocking=True) for row in (-mean / std, 1 / (255 * std)))
    rows = images.permute(0, 2, 3, 1).reshape(count, height, width * 3)  # no copy: channels-last
    return torch.addcmul(shift, rows, scale).view(count, height, width, 3).permute(0, 3, 1, 2)


def _erase(images: Tensor, params: AugmentParams) -> Tensor:
    """Fill the erased box of each chosen image with noise (timm's mode `pixel`), in place."""
    chosen = params.erased_box[:, 2].nonzero()[:, 0]  # on the CPU
    if not len(chosen):
        return images
    _, channels, side, _ = images.shape
    start, box, noise, index = (
        table.to(images.device, non_blocking=True)
        for table in (params.noise_start[chosen], params.erased_box[chosen], params.noise, chosen)
    )
    # The noise of an image runs from its start to the end, and continues from the beginning.
    fill = torch.cat([noise, noise]).unfold(0, len(noise), 1)[start].view(-1, channels, side, side)
    inside = _in_range(box[:, 0], box[:, 2], side)[:, :, None] & _in_range(box[:, 1], box[:, 3], side)[:, None, :]
    images[index] = torch.where(inside[:, None], fill, images[index])
    return images


def _in_range(start: Tensor, length: Tensor, side: int) -> Tensor:
    """Mask (B, side) of the pixels of one axis that lie in the box."""
    pixels = torch.arange(side, device=start.device)[None, :]
    return (pixels >= start[:, None]) & (pixels < (start + length)[:, None])
