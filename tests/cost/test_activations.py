"""Activation counts of modules and networks."""

import pytest
import torch
from torch import nn

from hiri_search.cost.activations import activation_count, module_activation_count
from hiri_search.language import parse_net, parse_network
from hiri_search.networks import build

SPEC = "hr(32 e=4)*2 -> cffn(64 e=4 s=1) -> t(64 e=4)*2"


def test_operators_count_the_elements_they_write_and_views_count_zero():
    module = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16, 5))
    assert module_activation_count(module, (3, 4, 4)) == 2 * 8 * 16 + 5
    assert module_activation_count(nn.Flatten(), (3, 4, 4)) == 0


def test_the_count_of_a_network_is_the_sum_over_its_pieces():
    with torch.device("meta"):
        module = build(parse_net(SPEC), 64, classes=10)
    assert activation_count(parse_net(SPEC), 64, classes=10) == module_activation_count(module, (3, 64, 64))


def test_the_count_of_a_timm_network_grows_with_the_image_area():
    small, large = (activation_count(parse_network("timm:test_resnet"), side, classes=10) for side in (64, 128))
    assert large == pytest.approx(4 * small, rel=0.02)
