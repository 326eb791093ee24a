"""Batched augmentation gives the images of torchvision's and timm's transforms, and their distributions."""

import math
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor
from torchvision.transforms.v2 import functional as torchvision_ops

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
SAMPLES = 4000
MEAN, STD = (torch.tensor(values)[:, None, None] for values in (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD))
ALL_AUGMENTATIONS = Recipe(erasing=0.5, jitter=0.4)


def _rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _images(count: int, stored: int = STORED) -> Tensor:
    return torch.randint(0, 256, (count, stored, stored, 3), dtype=torch.uint8, generator=_rng())


def _denormalised(images: Tensor) -> Tensor:
    """Network inputs scaled back to 0 to 255."""
    return 255 * (images * STD + MEAN)


def _params_of(params: AugmentParams, index: int) -> AugmentParams:
    """Parameters of one image of a batch; the noise is shared by all images."""
    parts = {field.name: getattr(params, field.name)[index : index + 1] for field in fields(params)}
    return replace(params, **parts | {"noise": params.noise})


def _sampled(recipe: Recipe, count: int = SAMPLES, seed: int = 0) -> AugmentParams:
    return sample_params(count, STORED, SIDE, recipe, _rng(seed))


# ---- crops and flips

RESIZES = [(augment_module._resize_batched, 2e-3), (augment_module._resize_per_image, 1.01)]


@pytest.mark.parametrize(("resize", "tolerance"), RESIZES)
def test_crops_and_flips_are_torchvisions_with_antialiasing(resize, tolerance: float):
    """The GPU resizes the whole batch; the CPU resizes image by image and rounds to integers."""
    stored_images, params = _images(16), _sampled(Recipe(crop=0.1), 16)
    resized = resize(stored_images, params, SIDE)
    for index, image in enumerate(stored_images):
        box = [int(number) for number in params.crop_box[index]]
        expected = torchvision_ops.resized_crop(image.permute(2, 0, 1).float(), *box, [SIDE, SIDE], antialias=True)
        expected = expected.flip(2) if params.flip[index] else expected
        torch.testing.assert_close(resized[index], expected, atol=tolerance, rtol=0)
    assert 0 < params.flip.sum() < 16


@pytest.mark.parametrize(("stored", "side"), [(40, 32), (32, 40), (80, 20), (33, 32)])
def test_resizing_equals_pillows_within_rounding(stored: int, side: int):
    stored_images = _images(2, stored)
    resized = _denormalised(augment(stored_images, center_crop_params(2, stored, 1.0), side))
    for image, stored_image in zip(resized, stored_images, strict=True):
        by_pillow = Image.fromarray(stored_image.numpy()).resize((side, side), Image.Resampling.BILINEAR)
        assert np.abs(image.permute(1, 2, 0).numpy() - np.asarray(by_pillow)).max() < 1.1


def test_a_full_crop_at_the_stored_side_changes_nothing():
    stored_images = _images(3)
    augmented = _denormalised(augment(stored_images, center_crop_params(3, STORED, 1.0), STORED))
    torch.testing.assert_close(augmented, stored_images.permute(0, 3, 1, 2).float(), atol=1e-3, rtol=0)


def test_the_center_crop_is_centred():
    """An image that equals its mirror image still does after the crop, also with an odd number of pixels."""
    for stored in (STORED, STORED + 1):
        images = _images(2, stored)
        symmetric = torch.where(torch.arange(stored)[:, None] < stored // 2, images, images.flip(2))
        cropped = _denormalised(augment(symmetric, center_crop_params(2, stored, 0.875), SIDE))
        torch.testing.assert_close(cropped, cropped.flip(3), atol=1.01, rtol=0)


def test_random_crops_have_timms_areas_and_ratios():
    top, left, height, width = _sampled(Recipe(crop=0.35)).crop_box.double().unbind(1)
    areas, ratios = height * width / STORED**2, (width / height).log()
    for margin in (top, left, STORED - top - height, STORED - left - width):
        assert margin.min() == 0
    assert 0.34 < areas.min() < 0.36
    # A crop that does not fit is sampled again, which happens to most large crops that are not square.
    assert 0.60 < areas.mean() < 0.66
    assert abs(ratios.mean()) < 0.01
    assert 0.9 * math.log(4 / 3) < ratios.max() < math.log(4 / 3) + 0.1


def test_random_crops_have_the_distribution_of_timms_crops():
    import random

    from timm.data.transforms import RandomResizedCropAndInterpolation

    random.seed(0)
    image = Image.new("RGB", (STORED, STORED))
    sample = RandomResizedCropAndInterpolation.get_params
    timms = torch.tensor([sample(image, (0.35, 1.0), (3 / 4, 4 / 3)) for _ in range(SAMPLES)]).double()
    ours = _sampled(Recipe(crop=0.35)).crop_box.double()
    for statistic in (lambda x: x.mean(0), lambda x: x.std(0)):
        torch.testing.assert_close(statistic(ours), statistic(timms), atol=0.3, rtol=0)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_share_of_flipped_images_is_that_of_the_recipe(share: float):
    assert abs(_sampled(Recipe(flip=share)).flip.double().mean() - share) < 0.03


def test_a_crop_share_of_one_keeps_the_whole_image():
    assert _sampled(Recipe(crop=1.0), 50).crop_box.tolist() == [[0, 0, STORED, STORED]] * 50


# ---- colour

JITTER_STEPS = {
    BRIGHTNESS: torchvision_ops.adjust_brightness,
    CONTRAST: torchvision_ops.adjust_contrast,
    SATURATION: torchvision_ops.adjust_saturation,
}


def test_colour_jitter_is_torchvisions_in_the_sampled_order():
    params = _sampled(Recipe(jitter=0.8, flip=0.0, crop=1.0), 24)
    stored_images = _images(24, SIDE)
    params = replace(params, crop_box=center_crop_params(24, SIDE, 1.0).crop_box)
    jittered = _denormalised(augment(stored_images, params, SIDE)) / 255
    for index, image in enumerate(stored_images):
        expected = image.permute(2, 0, 1) / 255
        for step in params.jitter_order[index].tolist():
            expected = JITTER_STEPS[step](expected, float(params.jitter_factors[index, step]))
        torch.testing.assert_close(jittered[index], expected, atol=1e-3, rtol=0)
    assert len({tuple(order) for order in params.jitter_order.tolist()}) == 6


@pytest.mark.parametrize(("jitter", "lowest", "highest"), [(0.0, 1.0, 1.0), (0.4, 0.6, 1.4), (1.5, 0.0, 2.5)])
def test_the_range_of_the_jitter_factors(jitter: float, lowest: float, highest: float):
    factors = _sampled(Recipe(jitter=jitter)).jitter_factors
    assert factors.min() == pytest.approx(lowest, abs=0.01)
    assert factors.max() == pytest.approx(highest, abs=0.01)


# ---- erasing


def test_erasing_fills_its_box_with_noise_and_changes_no_other_pixel():
    stored_images, params = _images(64), _sampled(Recipe(erasing=0.5), 64)
    plain = augment(stored_images, replace(params, erased_box=torch.zeros_like(params.erased_box)), SIDE)
    erased = augment(stored_images, params, SIDE)
    noise = []
    for index, (top, left, height, width) in enumerate(params.erased_box.tolist()):
        inside = torch.zeros(SIDE, SIDE, dtype=torch.bool)
        inside[top : top + height, left : left + width] = True
        assert torch.equal(erased[index][:, ~inside], plain[index][:, ~inside])
        noise.append(erased[index][:, inside].flatten())
    assert abs(torch.cat(noise).mean()) < 0.05
    assert abs(torch.cat(noise).std() - 1) < 0.05


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_the_share_of_erased_images_and_their_erased_area(share: float):
    top, left, height, width = _sampled(Recipe(erasing=share)).erased_box.unbind(1)
    is_erased = height > 0
    assert abs(is_erased.double().mean() - share) < 0.02
    assert torch.equal(is_erased, width > 0)
    if share:
        areas = (height * width)[is_erased] / SIDE**2
        assert 0.15 < areas.mean() < 0.19, "areas from 0.02 to 1/3, without the boxes that do not fit"
        assert min((SIDE - top - height).min(), (SIDE - left - width).min()) == 0


# ---- random generator and batch


def test_the_same_seed_gives_the_same_images():
    images = [augment(_images(8), _sampled(ALL_AUGMENTATIONS, 8, seed), SIDE) for seed in (0, 0, 1)]
    assert torch.equal(images[0], images[1])
    assert not torch.equal(images[0], images[2])


def test_an_image_does_not_depend_on_the_others_of_its_batch():
    stored_images, params = _images(8), _sampled(ALL_AUGMENTATIONS, 8)
    batch = augment(stored_images, params, SIDE)
    for index in range(8):
        alone = augment(stored_images[index : index + 1], _params_of(params, index), SIDE)
        torch.testing.assert_close(alone[0], batch[index], atol=1e-5, rtol=0)


SETTINGS = [
    ({"crop": 0.9}, {"crop_box"}),
    ({"flip": 0.9}, {"flip"}),
    ({"jitter": 0.1}, {"jitter_factors"}),
    ({"erasing": 0.9}, {"erased_box"}),
    ({"erasing": 0.0}, {"erased_box", "noise"}),
]


@pytest.mark.parametrize(("setting", "changed"), SETTINGS)
def test_a_setting_changes_only_its_own_augmentation(setting: dict[str, float], changed: set[str]):
    """Neither this batch nor the next one has other random numbers for the other augmentations."""
    generators = [_rng(), _rng()]
    recipes = ALL_AUGMENTATIONS, replace(ALL_AUGMENTATIONS, **setting)
    for _ in range(2):
        first, second = (
            sample_params(64, STORED, SIDE, recipe, rng) for recipe, rng in zip(recipes, generators, strict=True)
        )
        unequal = {f.name for f in fields(first) if not torch.equal(getattr(first, f.name), getattr(second, f.name))}
        assert unequal == changed


def test_augmented_images_are_channels_last_float_tensors_without_gradient():
    stored_images = _images(4)
    copy = stored_images.clone()
    images = augment(stored_images, _sampled(ALL_AUGMENTATIONS, 4), SIDE)
    assert (images.shape, images.dtype, images.requires_grad) == ((4, 3, SIDE, SIDE), torch.float32, False)
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(stored_images, copy)


@pytest.mark.gpu
def test_the_gpu_gives_the_images_of_the_cpu():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    stored_images, params = _images(16), _sampled(ALL_AUGMENTATIONS, 16)
    on_gpu = augment(stored_images.cuda(), params, SIDE).cpu()
    difference = (on_gpu - augment(stored_images, params, SIDE)).abs()
    assert difference.max() < 0.03, "one of 255 levels, where a number is rounded the other way"
    assert difference.mean() < 0.002
