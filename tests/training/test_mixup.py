"""Mixup and CutMix: the results of timm, with an explicit random state and the Mixing as a value."""

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
# (side, grid): cells of whole pixels, one cell, one pixel per cell, cells that cut pixels, cells smaller than pixels
GRIDS = [(12, 4), (12, 1), (12, 12), (12, 5), (13, 4), (7, 3), (4, 6)]
BOXES: dict[str, CutBox] = {
    "wide, at the top": (0, 2, 1, 4),
    "tall, at the right": (1, 4, 3, 4),
    "empty": (2, 2, 0, 4),
    "full": (0, 4, 0, 4),
}


def random_images(seed: int = 0) -> Tensor:
    return torch.randn(BATCH, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def mixed(mixer: Mixer, seed: int, images: Tensor | None = None) -> Mixed:
    return mixer(random_images(seed) if images is None else images, LABELS, RandomState(seed))


def timm_mixed(mixer: Mixer, seed: int) -> tuple[Tensor, Tensor]:
    enabled = mixer.mixup > 0 or mixer.cutmix > 0
    timm_mixup = timm.data.Mixup(
        mixup_alpha=mixer.mixup,
        cutmix_alpha=mixer.cutmix,
        prob=mixer.mix_share if enabled else 0.0,
        label_smoothing=mixer.label_smoothing,
        num_classes=CLASSES,
    )
    np.random.seed(seed)
    return timm_mixup(random_images(seed), LABELS)  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", SETTINGS)
def test_images_and_targets_equal_those_of_timm_bit_for_bit(name: str) -> None:
    for seed in SEEDS:
        ours, (images, targets) = mixed(SETTINGS[name], seed), timm_mixed(SETTINGS[name], seed)
        assert torch.equal(ours.images, images), seed
        assert torch.equal(ours.targets, targets), seed


def test_many_batches_from_one_random_state_equal_those_of_timm() -> None:
    """The number of draws per batch is the same."""
    rng, share = RandomState(3), 0.7
    timm_mixup = timm.data.Mixup(0.8, 1.0, prob=share, label_smoothing=0.1, num_classes=CLASSES)
    np.random.seed(3)
    for seed in range(40):
        images, targets = timm_mixup(random_images(seed), LABELS)
        ours = Mixer(0.8, 1.0, share, 0.1, CLASSES)(random_images(seed), LABELS, rng)
        assert torch.equal(ours.images, images)
        assert torch.equal(ours.targets, targets)


def test_the_seeds_cover_all_kinds_of_mixing() -> None:
    """Otherwise the comparison with timm would prove little."""
    drawn = [mixed(SETTINGS["half of the batches"], seed).mixing for seed in SEEDS]
    assert {mixing if mixing is None else mixing.box is None for mixing in drawn} == {None, True, False}
    boxes = [mixing.box for mixing in drawn if mixing and mixing.box]
    assert any(0 in box or SIDE in box for box in boxes), "no box is clipped at the border"


def test_only_the_given_random_state_is_used() -> None:
    np.random.seed(0)
    torch.manual_seed(0)
    numpy_state, torch_state = np.random.get_state()[1].copy(), torch.get_rng_state()  # type: ignore[index,union-attr]
    first, second = mixed(BOTH, 5), mixed(BOTH, 5)
    assert torch.equal(first.images, second.images)
    assert first.mixing == second.mixing
    assert (np.random.get_state()[1] == numpy_state).all()  # type: ignore[index]
    assert torch.equal(torch.get_rng_state(), torch_state)


@pytest.mark.parametrize("name", SETTINGS)
def test_the_input_images_stay_unchanged(name: str) -> None:
    for seed in SEEDS:
        images = random_images(seed)
        mixed(SETTINGS[name], seed, images)
        assert torch.equal(images, random_images(seed))


def test_unmixed_images_are_not_copied() -> None:
    images = random_images()
    assert mixed(SETTINGS["neither"], 0, images).images is images


def test_the_share_is_the_area_outside_the_clipped_box() -> None:
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
def test_targets_are_float32_probabilities_and_images_keep_their_format(name: str) -> None:
    bfloat16_images = random_images().bfloat16().to(memory_format=torch.channels_last)
    for seed in SEEDS:
        batch = mixed(SETTINGS[name], seed, bfloat16_images)
        assert batch.targets.dtype == torch.float32
        torch.testing.assert_close(batch.targets.sum(1), torch.ones(BATCH))
        assert batch.images.dtype == torch.bfloat16
        assert batch.images.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.gpu
@on_gpu
def test_a_gpu_gives_the_same_batch() -> None:
    for seed in SEEDS:
        on_cpu = mixed(BOTH, seed)
        on_cuda = BOTH(random_images(seed).cuda(), LABELS.cuda(), RandomState(seed))
        assert on_cuda.mixing == on_cpu.mixing
        torch.testing.assert_close(on_cuda.images.cpu(), on_cpu.images)
        torch.testing.assert_close(on_cuda.targets.cpu(), on_cpu.targets)


def test_a_tiny_alpha_leaves_some_batches_unmixed() -> None:
    """Beta(1e-5, 1e-5) is 0 or 1 in double precision; a batch with share 1 is not mixed, as in timm."""
    for tiny in (Mixer(1e-5, 0.0, 1.0, 0.1, CLASSES), Mixer(0.0, 1e-5, 1.0, 0.1, CLASSES)):
        mixings = [mixed(tiny, seed).mixing for seed in SEEDS]
        assert None in mixings
        assert any(mixing and mixing.share < 1 for mixing in mixings)
        for seed in SEEDS:
            assert torch.equal(mixed(tiny, seed).images, timm_mixed(tiny, seed)[0])


def test_the_mixer_has_the_settings_of_the_recipe() -> None:
    recipe = Recipe(mixup=0.2, cutmix=0.7, mix_share=0.6, label_smoothing=0.05)
    assert make_mixer(recipe, 9) == Mixer(0.2, 0.7, 0.6, 0.05, 9)


# ---- the mask


def scaled(box: CutBox, side: int) -> CutBox:
    """Scale a box on 4 x 4 pixels to `side` x `side` pixels."""
    top, bottom, left, right = (pixel * side // 4 for pixel in box)
    return top, bottom, left, right


def averaged(pixels: Tensor, grid: int) -> list[list[float]]:
    """Return the mean of each cell, with the exact part of each pixel inside the cell."""
    side = len(pixels)
    cell = Fraction(side, grid)

    def overlap(pixel: int, index: int) -> Fraction:
        return max(min(Fraction(pixel + 1), (index + 1) * cell) - max(Fraction(pixel), index * cell), Fraction(0))

    def mean(row: int, column: int) -> float:
        rows, columns = ([(at, part) for at in range(side) if (part := overlap(at, index))] for index in (row, column))
        areas = ((y, x, height * width) for (y, height), (x, width) in product(rows, columns))
        return float(sum(area * Fraction(pixels[y, x].item()) for y, x, area in areas) / cell**2)

    return [[mean(row, column) for column in range(grid)] for row in range(grid)]


def own_share(mixing: Mixing, side: int) -> Tensor:
    """Return the image's own share of each pixel, from mixing a white image with a black image."""
    white, black = torch.ones(3, side, side), torch.zeros(3, side, side)
    return mixing.mix(torch.stack([white, black]))[0, 0]


@pytest.mark.parametrize(("side", "grid"), GRIDS)
@pytest.mark.parametrize("name", BOXES)
def test_a_mask_is_the_pixel_share_averaged_over_each_cell(name: str, side: int, grid: int) -> None:
    top, bottom, left, right = box = scaled(BOXES[name], side)
    mixing = Mixing(1 - (bottom - top) * (right - left) / side**2, box)
    mask = mixing.mask(side, grid)
    torch.testing.assert_close(mask, torch.tensor(averaged(own_share(mixing, side), grid)))
    assert mask.dtype == torch.float32
    assert 0 <= mask.min() <= mask.max() <= 1
    assert mask.mean().item() == pytest.approx(mixing.share)


def test_a_mask_has_rows_first() -> None:
    """A box on the upper half covers the first row, a box on the left half the first column."""
    assert Mixing(0.5, (0, 4, 0, 8)).mask(8, 2).tolist() == [[0, 0], [1, 1]]
    assert Mixing(0.5, (0, 8, 0, 4)).mask(8, 2).tolist() == [[0, 1], [0, 1]]


def test_a_cell_cut_by_the_box_edge_has_a_fractional_share() -> None:
    # 3 pixels, 2 cells of 1.5: a box on the first pixel covers two thirds of the first cell's height.
    torch.testing.assert_close(Mixing(2 / 3, (0, 1, 0, 3)).mask(3, 2), torch.tensor([[1 / 3, 1 / 3], [1, 1]]))


def test_an_empty_box_gives_exact_ones_and_a_full_box_exact_zeros() -> None:
    for side, grid in GRIDS:
        assert (Mixing(1.0, (1, 1, 0, side)).mask(side, grid) == 1).all()
        assert (Mixing(0.0, (0, side, 0, side)).mask(side, grid) == 0).all()


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_mixup_has_the_same_share_everywhere(share: float) -> None:
    assert torch.equal(Mixing(share).mask(12, 5), torch.full((5, 5), share))
    torch.testing.assert_close(own_share(Mixing(share), 4), torch.full((4, 4), share))
