"""Gradient of the depthwise convolution on tiny grids."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hiri_search.nets.depthwise import TINY, DepthwiseConv2d

FORMATS = {"contiguous": torch.contiguous_format, "channels-last": torch.channels_last}


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (1, 2), (2, 1), (TINY + 1, TINY + 1)])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("memory", FORMATS)
def test_gradients_equal_those_of_a_plain_convolution(
    size: tuple[int, int], bias: bool, stride: int, memory: str
) -> None:
    ours = DepthwiseConv2d(6, stride=stride, bias=bias).double()
    plain = nn.Conv2d(6, 6, 3, stride, 1, groups=6, bias=bias).double()
    plain.load_state_dict(ours.state_dict())
    x = torch.randn(3, 6, *size, dtype=torch.float64).to(memory_format=FORMATS[memory])
    results = []
    for layer in (ours, plain):
        image = x.clone().requires_grad_()
        out = layer(image)
        (out.sin().sum()).backward()
        results.append([out, image.grad, *(p.grad for p in layer.parameters())])
    for actual, expected in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize(
    ("size", "memory", "own"),
    [
        (1, "channels-last", True),
        (1, "contiguous", True),
        (TINY, "channels-last", True),
        (TINY, "contiguous", False),
        (TINY + 1, "channels-last", False),
    ],
)
def test_the_own_gradient_is_used_only_where_it_is_faster(size: int, memory: str, own: bool) -> None:
    x = torch.randn(3, 6, size, size).to(memory_format=FORMATS[memory]).requires_grad_()
    assert ("TinyGrid" in type(DepthwiseConv2d(6)(x).grad_fn).__name__) == own


def test_the_gradient_agrees_with_finite_differences() -> None:
    layer = DepthwiseConv2d(2).double()
    x = torch.randn(2, 2, 2, 2, dtype=torch.float64).to(memory_format=torch.channels_last).requires_grad_()
    assert "TinyGrid" in type(layer(x).grad_fn).__name__
    assert torch.autograd.gradcheck(lambda x, *_: layer(x), (x, *layer.parameters()))
