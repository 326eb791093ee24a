"""Every operation of timm's augmentation policies runs with the installed Pillow."""

import random

import pytest
import torch
from PIL import Image

from hiri_search.training.data.datasets import _augment_ops, _posterize, open_split, with_safe_posterize
from hiri_search.training.job import DataSource, PreparedData
from hiri_search.training.recipe import Recipe


@pytest.mark.parametrize("policy", ["rand-m9-mstd0.5-inc1", "rand-m10-n4-inc1", "augmix-m5", "original", "originalr"])
def test_every_operation_of_every_policy_runs(policy: str, tmp_path):
    prepared = PreparedData(tmp_path, ("a", "b"), 2, 2, cache="none")
    recipe = Recipe(auto_augment=policy)
    dataset = open_split(DataSource("drawn", train=2, val=2), prepared, "train", side=16, recipe=recipe)
    random.seed(0)
    image = Image.new("RGB", (16, 16), (200, 100, 50))
    ops = list(_augment_ops(dataset.transform))
    assert len(ops) > 5
    for op in ops:
        op.prob = 1.0
        for _ in range(30):
            assert op(image).size == (16, 16)
    assert dataset[0][0].shape == (3, 16, 16)


def test_posterizing_to_no_bits_is_black_and_to_all_bits_changes_nothing():
    image = Image.new("RGB", (2, 2), (200, 100, 50))
    assert [_posterize(image, bits).getpixel((0, 0)) for bits in (0, 1, 8)] == [(0, 0, 0), (128, 0, 0), (200, 100, 50)]


def test_a_transform_without_a_policy_is_unchanged():
    assert with_safe_posterize(torch.nn.Identity())(1) == 1
