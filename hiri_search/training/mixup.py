"""Mixup and CutMix of a batch, and the resulting soft targets."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import torch
from numpy.random import RandomState
from timm.data.mixup import mixup_target
from torch import Tensor

from hiri_search.training.recipe import Recipe

CUTMIX_SHARE = 0.5  # of the mixed batches, where Mixup is on too: timm's `switch_prob`

CutBox = tuple[int, int, int, int]  # top, bottom, left, right in pixels; bottom and right are the first outside


@dataclass(frozen=True)
class Mixing:
    """What was done to a batch: image i was mixed with image B-1-i.

    Without a box (Mixup) every pixel keeps `share` of the image itself. With one (CutMix) the pixels inside are the
    other's, and `share` is the part of the area outside.
    """

    share: float  # lambda
    box: CutBox | None = None

    def mix(self, images: Tensor) -> Tensor:
        """(B, C, side, side) -> the same, mixed; the given ones stay as they are."""
        if self.box is None:
            return images * self.share + images.flip(0) * (1 - self.share)
        top, bottom, left, right = self.box
        mixed = images.clone()
        mixed[..., top:bottom, left:right] = images[..., top:bottom, left:right].flip(0)
        return mixed

    def mask(self, side: int, grid: int) -> Tensor:
        """M of Eq. 4-5 on a grid: (grid, grid), the part of each cell's area that is the image's own.

        The cells are equal parts of the `side` pixels, cutting pixels where they must, so that the mean is `share`
        for every grid; windows of whole pixels, as in area interpolation, would overlap. CPU, float32.
        """
        if self.box is None:
            return torch.full((grid, grid), self.share)
        top, bottom, left, right = self.box
        rows, columns = _covered(top, bottom, side, grid), _covered(left, right, side, grid)
        return (1 - torch.outer(rows, columns)).float()


def _covered(start: int, stop: int, side: int, grid: int) -> Tensor:
    """The part of each of `grid` equal cells of a line that lies from pixel `start` to in front of `stop`."""
    edges = torch.arange(grid + 1) * side  # in 1/grid of a pixel: whole numbers, so that full cells are exactly full
    inside = edges[1:].clamp(max=stop * grid) - edges[:-1].clamp(min=start * grid)
    return inside.clamp(min=0).double() / side


@dataclass(frozen=True)
class Mixed:
    """A batch as the network sees it."""

    images: Tensor  # (B, 3, side, side)
    targets: Tensor  # (B, classes), float32: rows sum to 1
    mixing: Mixing | None  # None: nothing was mixed, and the images are the given ones


@dataclass(frozen=True)
class Mixer:
    """Mixup and CutMix, half of the batches each where both are on: one draw for the whole batch.

    Gives what `timm.data.Mixup` gives in batch mode where numpy's global state is the given one, and says what it did.
    """

    mixup: float  # alpha of the Beta distribution; 0: off
    cutmix: float
    share_of_batches: float  # that are mixed at all
    label_smoothing: float
    classes: int

    def __call__(self, images: Tensor, labels: Tensor, rng: RandomState) -> Mixed:
        """Square images (B, 3, side, side), which stay as they are, and labels (B,)."""
        mixing = self.draw(images.shape[-1], rng)
        share = 1.0 if mixing is None else mixing.share
        targets = mixup_target(labels, self.classes, share, self.label_smoothing)
        return Mixed(images if mixing is None else mixing.mix(images), targets, mixing)

    def draw(self, side: int, rng: RandomState) -> Mixing | None:
        """What is done to the next batch. The draws are timm's, in timm's order."""
        if not (self.mixup or self.cutmix) or rng.rand() >= self.share_of_batches:
            return None
        cut = self.cutmix > 0 and (not self.mixup or rng.rand() < CUTMIX_SHARE)
        alpha = self.cutmix if cut else self.mixup
        share = rng.beta(alpha, alpha)
        if share == 1:  # small alphas round to it
            return None
        return _cut(side, share, rng) if cut else Mixing(share)


def _cut(side: int, share: float, rng: RandomState) -> Mixing:
    """A square of 1 - share of the area around any pixel; what then lies outside of the image is cut off."""
    length = int(side * sqrt(1 - share))
    (top, bottom), (left, right) = _span(length, side, rng), _span(length, side, rng)
    return Mixing(1 - (bottom - top) * (right - left) / side**2, (top, bottom, left, right))


def _span(length: int, side: int, rng: RandomState) -> tuple[int, int]:
    centre = int(rng.randint(side))
    return max(centre - length // 2, 0), min(centre + (length + 1) // 2, side)


def mixer(recipe: Recipe, classes: int) -> Mixer:
    """The mixing of a recipe; targets come out smoothed and as shares.

    With both off it mixes nothing, and only the targets are smoothed.
    """
    return Mixer(recipe.mixup, recipe.cutmix, recipe.mix_share, recipe.label_smoothing, classes)
