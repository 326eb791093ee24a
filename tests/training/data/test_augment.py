"""What is done to originals in batches is what is done to them one by one, drawn as timm draws it."""

import math
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor
from torchvision.transforms.v2 import functional as one_by_one

from hiri_search.training.data import augment as augment_module
from hiri_search.training.data.augment import (
    BRIGHTNESS,
    CONTRAST,
    SATURATION,
    AugmentParams,
    augment,
    center_crop_params,
    sample_params,
)
from hiri_search.training.recipe import Recipe

STORED, SIDE = 40, 32
MANY = 4000
MEAN, STD = (torch.tensor(values)[:, None, None] for values in (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD))
ALL = Recipe(erasing=0.5, jitter=0.4)


def _rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _images(count: int, stored: int = STORED) -> Tensor:
    return torch.randint(0, 256, (count, stored, stored, 3), dtype=torch.uint8, generator=_rng())


def _shown(images: Tensor) -> Tensor:
    """Back to 0 to 255."""
    return 255 * (images * STD + MEAN)


def _only(looks: AugmentParams, index: int) -> AugmentParams:
    """Of one image; the noise belongs to all."""
    parts = {field.name: getattr(looks, field.name)[index : index + 1] for field in fields(looks)}
    return replace(looks, **parts | {"noise": looks.noise})


def _drawn(recipe: Recipe, count: int = MANY, seed: int = 0) -> AugmentParams:
    return sample_params(count, STORED, SIDE, recipe, _rng(seed))


# ---- crops and flips


@pytest.mark.parametrize(("resample", "tolerance"), [(augment_module._at_once, 2e-3), (augment_module._in_turn, 1.01)])
def test_crops_and_flips_are_torchvisions_with_antialiasing(resample, tolerance: float):
    """On a GPU all at once, on the CPU in turn, rounded to whole numbers."""
    originals, looks = _images(16), _drawn(Recipe(crop=0.1), 16)
    found = resample(originals, looks, SIDE)
    for index, image in enumerate(originals):
        box = [int(number) for number in looks.box[index]]
        wanted = one_by_one.resized_crop(image.permute(2, 0, 1).float(), *box, [SIDE, SIDE], antialias=True)
        wanted = wanted.flip(2) if looks.flip[index] else wanted
        torch.testing.assert_close(found[index], wanted, atol=tolerance, rtol=0)
    assert 0 < looks.flip.sum() < 16


@pytest.mark.parametrize(("stored", "side"), [(40, 32), (32, 40), (80, 20), (33, 32)])
def test_the_resampling_is_pillows_to_its_rounding(stored: int, side: int):
    originals = _images(2, stored)
    found = _shown(augment(originals, center_crop_params(2, stored, 1.0), side))
    for image, original in zip(found, originals, strict=True):
        pillows = Image.fromarray(original.numpy()).resize((side, side), Image.Resampling.BILINEAR)
        assert np.abs(image.permute(1, 2, 0).numpy() - np.asarray(pillows)).max() < 1.1


def test_the_whole_image_at_its_own_side_is_itself():
    originals = _images(3)
    found = _shown(augment(originals, center_crop_params(3, STORED, 1.0), STORED))
    torch.testing.assert_close(found, originals.permute(0, 3, 1, 2).float(), atol=1e-3, rtol=0)


def test_the_middle_is_the_middle():
    """A image that is its own mirror image stays one, also of an odd number of pixels."""
    for stored in (STORED, STORED + 1):
        originals = _images(2, stored)
        originals = torch.where(torch.arange(stored)[:, None] < stored // 2, originals, originals.flip(2))
        found = _shown(augment(originals, center_crop_params(2, stored, 0.875), SIDE))
        torch.testing.assert_close(found, found.flip(3), atol=1.01, rtol=0)


def test_drawn_crops_have_timms_areas_and_ratios():
    top, left, height, width = _drawn(Recipe(crop=0.35)).box.double().unbind(1)
    areas, ratios = height * width / STORED**2, (width / height).log()
    for edge in (top, left, STORED - top - height, STORED - left - width):
        assert edge.min() == 0
    assert 0.34 < areas.min() < 0.36
    # What lies outside is drawn again: among large areas that are other than square, most.
    assert 0.60 < areas.mean() < 0.66
    assert abs(ratios.mean()) < 0.01
    assert 0.9 * math.log(4 / 3) < ratios.max() < math.log(4 / 3) + 0.1


def test_timm_draws_the_same_crops():
    import random

    from timm.data.transforms import RandomResizedCropAndInterpolation

    random.seed(0)
    image = Image.new("RGB", (STORED, STORED))
    draw = RandomResizedCropAndInterpolation.get_params
    theirs = torch.tensor([draw(image, (0.35, 1.0), (3 / 4, 4 / 3)) for _ in range(MANY)]).double()
    ours = _drawn(Recipe(crop=0.35)).box.double()
    for statistic in (lambda x: x.mean(0), lambda x: x.std(0)):
        torch.testing.assert_close(statistic(ours), statistic(theirs), atol=0.3, rtol=0)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_share_of_mirrored_images(share: float):
    assert abs(_drawn(Recipe(flip=share)).flip.double().mean() - share) < 0.03


def test_a_crop_of_all_is_all():
    assert _drawn(Recipe(crop=1.0), 50).box.tolist() == [[0, 0, STORED, STORED]] * 50


# ---- colour

STEPS = {
    BRIGHTNESS: one_by_one.adjust_brightness,
    CONTRAST: one_by_one.adjust_contrast,
    SATURATION: one_by_one.adjust_saturation,
}


def test_colours_are_torchvisions_in_the_drawn_order():
    looks = _drawn(Recipe(jitter=0.8, flip=0.0, crop=1.0), 24)
    originals = _images(24, SIDE)
    looks = replace(looks, box=center_crop_params(24, SIDE, 1.0).box)
    found = _shown(augment(originals, looks, SIDE)) / 255
    for index, image in enumerate(originals):
        wanted = image.permute(2, 0, 1) / 255
        for step in looks.order[index].tolist():
            wanted = STEPS[step](wanted, float(looks.factors[index, step]))
        torch.testing.assert_close(found[index], wanted, atol=1e-3, rtol=0)
    assert len({tuple(order) for order in looks.order.tolist()}) == 6


@pytest.mark.parametrize(("jitter", "least", "most"), [(0.0, 1.0, 1.0), (0.4, 0.6, 1.4), (1.5, 0.0, 2.5)])
def test_the_range_of_the_factors(jitter: float, least: float, most: float):
    factors = _drawn(Recipe(jitter=jitter)).factors
    assert factors.min() == pytest.approx(least, abs=0.01)
    assert factors.max() == pytest.approx(most, abs=0.01)


# ---- erasing


def test_what_is_erased_is_noise_in_its_rectangle_and_nothing_beside_it():
    originals, looks = _images(64), _drawn(Recipe(erasing=0.5), 64)
    plain = augment(originals, replace(looks, erased=torch.zeros_like(looks.erased)), SIDE)
    found = augment(originals, looks, SIDE)
    noise = []
    for index, (top, left, height, width) in enumerate(looks.erased.tolist()):
        inside = torch.zeros(SIDE, SIDE, dtype=torch.bool)
        inside[top : top + height, left : left + width] = True
        assert torch.equal(found[index][:, ~inside], plain[index][:, ~inside])
        noise.append(found[index][:, inside].flatten())
    assert abs(torch.cat(noise).mean()) < 0.05
    assert abs(torch.cat(noise).std() - 1) < 0.05


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_the_share_and_area_that_is_erased(share: float):
    top, left, height, width = _drawn(Recipe(erasing=share)).erased.unbind(1)
    is_erased = height > 0
    assert abs(is_erased.double().mean() - share) < 0.02
    assert torch.equal(is_erased, width > 0)
    if share:
        areas = (height * width)[is_erased] / SIDE**2
        assert 0.15 < areas.mean() < 0.19, "0.02 to 1/3, less what does not fit"
        assert min((SIDE - top - height).min(), (SIDE - left - width).min()) == 0


# ---- what depends on what


def test_the_same_generator_gives_the_same_images():
    images = [augment(_images(8), _drawn(ALL, 8, seed), SIDE) for seed in (0, 0, 1)]
    assert torch.equal(images[0], images[1])
    assert not torch.equal(images[0], images[2])


def test_a_image_does_not_feel_its_neighbours():
    originals, looks = _images(8), _drawn(ALL, 8)
    together = augment(originals, looks, SIDE)
    for index in range(8):
        alone = augment(originals[index : index + 1], _only(looks, index), SIDE)
        torch.testing.assert_close(alone[0], together[index], atol=1e-5, rtol=0)


KNOBS = [
    ({"crop": 0.9}, {"box"}),
    ({"flip": 0.9}, {"flip"}),
    ({"jitter": 0.1}, {"factors"}),
    ({"erasing": 0.9}, {"erased"}),
    ({"erasing": 0.0}, {"erased", "noise"}),
]


@pytest.mark.parametrize(("knob", "moved"), KNOBS)
def test_a_knob_moves_no_other(knob: dict[str, float], moved: set[str]):
    """Neither in this batch nor in the next."""
    streams = [_rng(), _rng()]
    for _ in range(2):
        one, other = (
            sample_params(64, STORED, SIDE, recipe, rng)
            for recipe, rng in zip((ALL, replace(ALL, **knob)), streams, strict=True)
        )
        unequal = {f.name for f in fields(one) if not torch.equal(getattr(one, f.name), getattr(other, f.name))}
        assert unequal == moved


def test_images_are_as_a_network_wants_them():
    originals = _images(4)
    before = originals.clone()
    images = augment(originals, _drawn(ALL, 4), SIDE)
    assert (images.shape, images.dtype, images.requires_grad) == ((4, 3, SIDE, SIDE), torch.float32, False)
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(originals, before)


@pytest.mark.gpu
def test_the_gpu_shows_what_the_cpu_shows():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    originals, looks = _images(16), _drawn(ALL, 16)
    found = augment(originals.cuda(), looks, SIDE).cpu()
    apart = (found - augment(originals, looks, SIDE)).abs()
    assert apart.max() < 0.03, "one step of 255 where a number is rounded the other way"
    assert apart.mean() < 0.002
