"""Mixup and CutMix: what timm gives, with the randomness as an argument, and what was done handed out."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
import timm.data
import torch
from numpy.random import RandomState
from torch import Tensor

from hiri_search.training.mixup import CutBox, Mixed, Mixer, Mixing, make_mixer
from hiri_search.training.recipe import Recipe

on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

SIDE, BATCH, CLASSES = 12, 6, 5
SEEDS = range(25)
LABELS = torch.tensor([0, 3, 1, 4, 4, 2])
BOTH = Mixer(0.8, 1.0, 1.0, 0.1, CLASSES)
SETTINGS = {
    "both": BOTH,
    "mixup": Mixer(0.3, 0.0, 1.0, 0.1, CLASSES),
    "cutmix": Mixer(0.0, 1.0, 1.0, 0.0, CLASSES),
    "half of the batches": Mixer(0.8, 1.0, 0.5, 0.2, CLASSES),
    "no batch": Mixer(0.8, 1.0, 0.0, 0.1, CLASSES),
    "neither": Mixer(0.0, 0.0, 1.0, 0.1, CLASSES),
}
# (side, grid): cells of whole pixels, one cell, pixels as cells, pixels cut by cells, cells smaller than pixels
GRIDS = [(12, 4), (12, 1), (12, 12), (12, 5), (13, 4), (7, 3), (4, 6)]
BOXES: dict[str, CutBox] = {
    "wide, at the top": (0, 2, 1, 4),
    "high, at the right": (1, 4, 3, 4),
    "nothing": (2, 2, 0, 4),
    "everything": (0, 4, 0, 4),
}


def some_images(seed: int = 0) -> Tensor:
    return torch.randn(BATCH, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def mixed(mixer: Mixer, seed: int, images: Tensor | None = None) -> Mixed:
    return mixer(some_images(seed) if images is None else images, LABELS, RandomState(seed))


def timms(mixer: Mixer, seed: int) -> tuple[Tensor, Tensor]:
    on = mixer.mixup > 0 or mixer.cutmix > 0
    theirs = timm.data.Mixup(
        mixup_alpha=mixer.mixup,
        cutmix_alpha=mixer.cutmix,
        prob=mixer.mix_share if on else 0.0,
        label_smoothing=mixer.label_smoothing,
        num_classes=CLASSES,
    )
    np.random.seed(seed)
    return theirs(some_images(seed), LABELS)  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", SETTINGS)
def test_images_and_targets_are_timms_to_the_last_bit(name: str) -> None:
    for seed in SEEDS:
        ours, (images, targets) = mixed(SETTINGS[name], seed), timms(SETTINGS[name], seed)
        assert torch.equal(ours.images, images), seed
        assert torch.equal(ours.targets, targets), seed


def test_a_long_training_stays_with_timm() -> None:
    """One state for many batches: no draw more and none fewer."""
    rng, share = RandomState(3), 0.7
    theirs = timm.data.Mixup(0.8, 1.0, prob=share, label_smoothing=0.1, num_classes=CLASSES)
    np.random.seed(3)
    for seed in range(40):
        images, targets = theirs(some_images(seed), LABELS)
        ours = Mixer(0.8, 1.0, share, 0.1, CLASSES)(some_images(seed), LABELS, rng)
        assert torch.equal(ours.images, images)
        assert torch.equal(ours.targets, targets)


def test_all_that_can_happen_happens() -> None:
    """Else the comparison with timm would say little."""
    drawn = [mixed(SETTINGS["half of the batches"], seed).mixing for seed in SEEDS]
    assert {mixing if mixing is None else mixing.box is None for mixing in drawn} == {None, True, False}
    boxes = [mixing.box for mixing in drawn if mixing and mixing.box]
    assert any(0 in box or SIDE in box for box in boxes), "none reaches over the edge"


def test_the_randomness_is_that_of_the_argument_alone() -> None:
    np.random.seed(0)
    torch.manual_seed(0)
    before, torchs = np.random.get_state()[1].copy(), torch.get_rng_state()  # type: ignore[index,union-attr]
    one, other = mixed(BOTH, 5), mixed(BOTH, 5)
    assert torch.equal(one.images, other.images)
    assert one.mixing == other.mixing
    assert (np.random.get_state()[1] == before).all()  # type: ignore[index]
    assert torch.equal(torch.get_rng_state(), torchs)


@pytest.mark.parametrize("name", SETTINGS)
def test_the_given_images_stay_as_they_are(name: str) -> None:
    for seed in SEEDS:
        images = some_images(seed)
        mixed(SETTINGS[name], seed, images)
        assert torch.equal(images, some_images(seed))


def test_unmixed_images_are_not_copied() -> None:
    images = some_images()
    assert mixed(SETTINGS["neither"], 0, images).images is images


def test_the_share_is_that_of_the_box_inside_the_image() -> None:
    for seed in SEEDS:
        mixing = mixed(SETTINGS["cutmix"], seed).mixing
        assert mixing is not None
        assert mixing.box is not None
        top, bottom, left, right = mixing.box
        assert all(type(pixel) is int for pixel in mixing.box)
        assert 0 <= top <= bottom <= SIDE
        assert 0 <= left <= right <= SIDE
        assert mixing.share == pytest.approx(1 - (bottom - top) * (right - left) / SIDE**2)


@pytest.mark.parametrize("name", SETTINGS)
def test_targets_are_shares_in_single_precision(name: str) -> None:
    half = some_images().bfloat16().to(memory_format=torch.channels_last)
    for seed in SEEDS:
        given = mixed(SETTINGS[name], seed, half)
        assert given.targets.dtype == torch.float32
        torch.testing.assert_close(given.targets.sum(1), torch.ones(BATCH))
        assert given.images.dtype == torch.bfloat16
        assert given.images.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.gpu
@on_gpu
def test_on_a_gpu_it_gives_the_same() -> None:
    for seed in SEEDS:
        here = mixed(BOTH, seed)
        there = BOTH(some_images(seed).cuda(), LABELS.cuda(), RandomState(seed))
        assert there.mixing == here.mixing
        torch.testing.assert_close(there.images.cpu(), here.images)
        torch.testing.assert_close(there.targets.cpu(), here.targets)


def test_an_alpha_so_small_that_nothing_is_mixed() -> None:
    """Beta(1e-5, 1e-5) is 0 or 1 in double precision; 1 is a batch left alone, as in timm."""
    for tiny in (Mixer(1e-5, 0.0, 1.0, 0.1, CLASSES), Mixer(0.0, 1e-5, 1.0, 0.1, CLASSES)):
        mixings = [mixed(tiny, seed).mixing for seed in SEEDS]
        assert None in mixings
        assert any(mixing and mixing.share < 1 for mixing in mixings)
        for seed in SEEDS:
            assert torch.equal(mixed(tiny, seed).images, timms(tiny, seed)[0])


def test_a_recipe_says_how_to_mix() -> None:
    recipe = Recipe(mixup=0.2, cutmix=0.7, mix_share=0.6, label_smoothing=0.05)
    assert make_mixer(recipe, 9) == Mixer(0.2, 0.7, 0.6, 0.05, 9)


# ---- the mask


def scaled(box: CutBox, side: int) -> CutBox:
    """A box on 4 x 4 pixels, on as many as `side` has."""
    top, bottom, left, right = (pixel * side // 4 for pixel in box)
    return top, bottom, left, right


def averaged(pixels: Tensor, grid: int) -> list[list[float]]:
    """Each cell's mean over the pixels, each pixel as much as lies in the cell: exact, one by one."""
    side = len(pixels)
    cell = Fraction(side, grid)

    def common(pixel: int, index: int) -> Fraction:
        return max(min(Fraction(pixel + 1), (index + 1) * cell) - max(Fraction(pixel), index * cell), Fraction(0))

    def mean(row: int, column: int) -> float:
        areas = ((y, x, common(y, row) * common(x, column)) for y, x in product(range(side), repeat=2))
        return float(sum(area * Fraction(pixels[y, x].item()) for y, x, area in areas) / cell**2)

    return [[mean(row, column) for column in range(grid)] for row in range(grid)]


def kept(mixing: Mixing, side: int) -> Tensor:
    """How much of each pixel is the image's own, seen on images: a white one mixed with a black one."""
    white, black = torch.ones(3, side, side), torch.zeros(3, side, side)
    return mixing.mix(torch.stack([white, black]))[0, 0]


@pytest.mark.parametrize(("side", "grid"), GRIDS)
@pytest.mark.parametrize("name", BOXES)
def test_a_mask_is_what_was_done_to_the_images_averaged_over_each_cell(name: str, side: int, grid: int) -> None:
    top, bottom, left, right = box = scaled(BOXES[name], side)
    mixing = Mixing(1 - (bottom - top) * (right - left) / side**2, box)
    mask = mixing.mask(side, grid)
    torch.testing.assert_close(mask, torch.tensor(averaged(kept(mixing, side), grid)))
    assert mask.dtype == torch.float32
    assert 0 <= mask.min() <= mask.max() <= 1
    assert mask.mean().item() == pytest.approx(mixing.share)


def test_a_mask_has_rows_first() -> None:
    """The box lies over the upper half: the first row, and not the first column, is the other's."""
    assert Mixing(0.5, (0, 4, 0, 8)).mask(8, 2).tolist() == [[0, 0], [1, 1]]
    assert Mixing(0.5, (0, 8, 0, 4)).mask(8, 2).tolist() == [[0, 1], [0, 1]]


def test_a_cell_that_the_edge_of_the_box_cuts_is_shared() -> None:
    # 3 pixels, 2 cells of 1.5: a box on the first pixel covers two thirds of the first cell's height.
    torch.testing.assert_close(Mixing(2 / 3, (0, 1, 0, 3)).mask(3, 2), torch.tensor([[1 / 3, 1 / 3], [1, 1]]))


def test_an_empty_box_takes_nothing_and_a_full_one_everything_exactly() -> None:
    for side, grid in GRIDS:
        assert (Mixing(1.0, (1, 1, 0, side)).mask(side, grid) == 1).all()
        assert (Mixing(0.0, (0, side, 0, side)).mask(side, grid) == 0).all()


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_mixup_has_one_share_everywhere(share: float) -> None:
    assert torch.equal(Mixing(share).mask(12, 5), torch.full((5, 5), share))
    torch.testing.assert_close(kept(Mixing(share), 4), torch.full((4, 4), share))
