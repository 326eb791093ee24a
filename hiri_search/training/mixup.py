"""Mixup and CutMix of a batch, and the resulting soft targets."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import torch
from numpy.random import RandomState
from timm.data.mixup import mixup_target
from torch import Tensor

from hiri_search.training.recipe import Recipe

_CUTMIX_SHARE = 0.5  # share of CutMix among the mixed batches if Mixup is on too: timm's `switch_prob`

CutBox = tuple[int, int, int, int]  # top, bottom, left, right in pixels; bottom and right are exclusive


@dataclass(frozen=True)
class Mixing:
    """The mixing of a batch: image i with its partner, image B-1-i.

    Without a box (Mixup) every pixel is `share` of the image plus 1 - `share` of its partner. With a box (CutMix) the
    pixels inside it are the partner's, and `share` is the fraction of the area outside the box.
    """

    share: float  # lambda of Mixup and CutMix
    box: CutBox | None = None

    def mix(self, images: Tensor) -> Tensor:
        """Return the mixed images (B, C, side, side); `images` stays unchanged."""
        if self.box is None:
            return images * self.share + images.flip(0) * (1 - self.share)
        top, bottom, left, right = self.box
        mixed = images.clone()
        mixed[..., top:bottom, left:right] = images[..., top:bottom, left:right].flip(0)
        return mixed

    def mask(self, side: int, grid: int) -> Tensor:
        """Return M of Eq. 4-5 on a grid: (grid, grid), float32 on the CPU; the image's own fraction of each cell.

        The cells divide the `side` pixels equally and may cut through a pixel, so that the mean is `share` for every
        grid. Windows of whole pixels, as in area interpolation, would overlap.
        """
        if self.box is None:
            return torch.full((grid, grid), self.share)
        top, bottom, left, right = self.box
        rows, columns = _coverage(top, bottom, side, grid), _coverage(left, right, side, grid)
        return (1 - torch.outer(rows, columns)).float()


def _coverage(start: int, stop: int, side: int, grid: int) -> Tensor:
    """Return the fraction of each of `grid` equal cells on a line of `side` pixels that `start` to `stop` covers."""
    edges = torch.arange(grid + 1) * side  # in units of 1/grid pixel: integers, so that a full cell is exactly 1
    overlap = edges[1:].clamp(max=stop * grid) - edges[:-1].clamp(min=start * grid)
    return overlap.clamp(min=0).double() / side


@dataclass(frozen=True)
class Mixed:
    """A batch after mixing, as the network receives it."""

    images: Tensor  # (B, 3, side, side)
    targets: Tensor  # (B, classes), float32: rows sum to 1
    mixing: Mixing | None  # None: not mixed, and `images` is the input tensor


@dataclass(frozen=True)
class Mixer:
    """Mixup and CutMix with one draw per batch; if both are on, each gets half of the batches.

    The results equal those of `timm.data.Mixup` in batch mode with the same numpy random state. In addition the
    Mixing is returned.
    """

    mixup: float  # alpha of the Beta distribution; 0: off
    cutmix: float
    mix_share: float  # share of the batches that are mixed
    label_smoothing: float
    classes: int

    def __call__(self, images: Tensor, labels: Tensor, rng: RandomState) -> Mixed:
        """Mix square images (B, 3, side, side), which stay unchanged, and labels (B,)."""
        mixing = self.draw(images.shape[-1], rng)
        share = 1.0 if mixing is None else mixing.share
        targets = mixup_target(labels, self.classes, share, self.label_smoothing)
        return Mixed(images if mixing is None else mixing.mix(images), targets, mixing)

    def draw(self, side: int, rng: RandomState) -> Mixing | None:
        """Draw the mixing of the next batch, with the draws of timm in the order of timm; None: do not mix."""
        if not (self.mixup or self.cutmix) or rng.rand() >= self.mix_share:
            return None
        use_cutmix = self.cutmix > 0 and (not self.mixup or rng.rand() < _CUTMIX_SHARE)
        alpha = self.cutmix if use_cutmix else self.mixup
        share = rng.beta(alpha, alpha)
        if share == 1:  # small alphas can round to 1
            return None
        return _cutmix(side, share, rng) if use_cutmix else Mixing(share)


def _cutmix(side: int, share: float, rng: RandomState) -> Mixing:
    """Draw a square of 1 - share of the area around a random pixel, clipped to the image."""
    length = int(side * sqrt(1 - share))
    (top, bottom), (left, right) = _span(length, side, rng), _span(length, side, rng)
    return Mixing(1 - (bottom - top) * (right - left) / side**2, (top, bottom, left, right))


def _span(length: int, side: int, rng: RandomState) -> tuple[int, int]:
    centre = int(rng.randint(side))
    return max(centre - length // 2, 0), min(centre + (length + 1) // 2, side)


def make_mixer(recipe: Recipe, classes: int) -> Mixer:
    """Return the mixer of a recipe; with Mixup and CutMix off it only smooths the targets."""
    return Mixer(recipe.mixup, recipe.cutmix, recipe.mix_share, recipe.label_smoothing, classes)
