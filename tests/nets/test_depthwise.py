"""Gradient of the depthwise convolution on tiny grids."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hiri_search.nets.depthwise import TINY, DepthwiseConv2d


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (1, 2), (2, 1), (TINY + 1, TINY + 1)])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("stride", [1, 2])
def test_gradients_equal_those_of_a_plain_convolution(size: tuple[int, int], bias: bool, stride: int) -> None:
    ours = DepthwiseConv2d(6, stride=stride, bias=bias).double()
    plain = nn.Conv2d(6, 6, 3, stride, 1, groups=6, bias=bias).double()
    plain.load_state_dict(ours.state_dict())
    x = torch.randn(3, 6, *size, dtype=torch.float64)
    results = []
    for layer in (ours, plain):
        image = x.clone().requires_grad_()
        out = layer(image)
        (out.sin().sum()).backward()
        results.append([out, image.grad, *(p.grad for p in layer.parameters())])
    for actual, expected in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected)


def test_the_gradient_agrees_with_finite_differences() -> None:
    layer = DepthwiseConv2d(2).double()
    x = torch.randn(2, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    assert "TinyGrid" in type(layer(x).grad_fn).__name__
    assert torch.autograd.gradcheck(lambda x, *_: layer(x), (x, *layer.parameters()))
