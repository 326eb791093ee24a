"""Inputs of any size: what strides divides rounds up, as in the backbones of detectors."""

from __future__ import annotations

import pytest
import timm
import torch
import torch.nn.functional as F

import hiri_search.models  # noqa: F401 - registers the names
from hiri_search.language import parse_net
from hiri_search.nets.blocks import HighResolutionBlock
from hiri_search.nets.downsample import Shortcut

STEMS = ("hrstem(hs=8)", "convstem(hs=8)", "vitstem")
STAGES = "hr(8 e=2) -> hr(16 e=2 r=1) -> cffn(16 e=2 down=a) -> t(32 e=2 d=16 down=b) -> t(32 e=2 d=16 down=conv)"


@pytest.mark.parametrize("stem", STEMS)
@pytest.mark.parametrize("size", [(75, 100), (33, 129), (5, 4), (128, 192)])
def test_the_grids_of_all_stages_round_up(stem: str, size: tuple[int, int]):
    spec = f"{stem} -> {STAGES}"
    model = timm.create_model("hirivit", spec=spec, features_only=True).eval()
    with torch.no_grad():
        sizes = tuple(tuple(each.shape[2:]) for each in model(torch.zeros(1, 3, *size)))
    assert sizes == parse_net(spec).rounded_grids(*size)


@pytest.mark.parametrize("size", [(5, 7), (4, 7), (5, 8)])
def test_the_shortcut_of_an_odd_grid_is_that_of_the_grid_with_zeros_at_the_right_and_the_bottom(size: tuple[int, int]):
    shortcut, x = Shortcut(3, 4, 2), torch.randn(2, 3, *size)
    height, width = size
    padded = F.pad(x, (0, width % 2, 0, height % 2))
    assert torch.equal(shortcut(x), shortcut(padded))
    assert torch.equal(shortcut(x), shortcut.conv(padded))


def test_the_low_branch_of_an_odd_grid_repeats_its_pixels_and_is_cut():
    block, x = HighResolutionBlock(4, 2).eval(), torch.randn(1, 4, 5, 7)
    low = block.fc2(block.act(block.fc1(block.norm(block.reduce(x)))))
    assert low.shape[2:] == (3, 4)
    repeated = low.repeat_interleave(2, 2).repeat_interleave(2, 3)[:, :, :5, :7]
    torch.testing.assert_close(block(x), x + block.high(x) + repeated)


def test_a_classifier_of_odd_grids_can_be_traced_and_trained():
    model = timm.create_model("hirivit", spec=f"{STEMS[0]} -> {STAGES}", num_classes=5)
    images = torch.randn(2, 3, 75, 101)
    model(images).sum().backward()
    model.eval()
    traced = torch.fx.symbolic_trace(model)
    torch.testing.assert_close(traced(images), model(images))
