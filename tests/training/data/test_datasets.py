"""timm's policies run with the Pillow that is there."""

import random

import pytest
import torch
from PIL import Image

from hiri_search.training.data.datasets import _ops, _posterized, open_split, with_safe_posterize
from hiri_search.training.job import DataSource, PreparedData
from hiri_search.training.recipe import Recipe


@pytest.mark.parametrize("policy", ["rand-m9-mstd0.5-inc1", "rand-m10-n4-inc1", "augmix-m5", "original", "originalr"])
def test_every_step_of_every_policy_runs(policy: str, tmp_path):
    data = DataSource("drawn", train=2, val=2)
    split = open_split(
        data,
        PreparedData(tmp_path, ("a", "b"), 2, 2, cache="none"),
        "train",
        side=16,
        recipe=Recipe(auto_augment=policy),
    )
    random.seed(0)
    image = Image.new("RGB", (16, 16), (200, 100, 50))
    ops = list(_ops(split.transform))
    assert len(ops) > 5
    for op in ops:
        op.prob = 1.0
        for _ in range(30):
            assert op(image).size == (16, 16)
    assert split[0][0].shape == (3, 16, 16)


def test_no_bit_is_black_and_all_bits_are_the_image():
    image = Image.new("RGB", (2, 2), (200, 100, 50))
    assert [_posterized(image, bits).getpixel((0, 0)) for bits in (0, 1, 8)] == [(0, 0, 0), (128, 0, 0), (200, 100, 50)]


def test_a_transform_without_a_policy_is_left_alone():
    assert with_safe_posterize(torch.nn.Identity())(1) == 1
