"""3x3 depthwise convolution with a fast CPU gradient on channels-last grids up to 2x2."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad

TINY = 2  # side of the largest grid where the gradient below is faster than the CPU library's


class DepthwiseConv2d(nn.Conv2d):
    """3x3 depthwise convolution of stride 1 or 2: an `nn.Conv2d` with its own gradient on tiny channels-last grids.

    Small stand-ins end in grids of 2x2 and 1x1. There, with one thread and 64 images, forward and backward pass are 1.1
    to 1.2 times as fast as those of `nn.Conv2d` with 64 channels, and 2 times with 256 (with 16 images 0.9 and 1.2 to
    1.3). Contiguous 1x1 grids, which are channels-last too, gain 2.9 and 6.7 times; contiguous 2x2 grids would take 1.6
    times as long.
    """

    def __init__(self, width: int, *, stride: int = 1, bias: bool = True) -> None:
        super().__init__(width, width, 3, stride, 1, groups=width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H/s, W/s)
        # A condition of its own, because TorchScript compiles what stands beside it.
        if not torch.jit.is_scripting():  # type: ignore[attr-defined]
            own_gradient = _is_plain(x) and self._is_faster(x)
            if own_gradient:
                return _TinyGrid.apply(x, self.weight, self.bias)  # type: ignore[no-any-return]
        return self._conv_forward(x, self.weight, self.bias)  # type: ignore[no-any-return]

    def _is_faster(self, x: Tensor) -> bool:
        """Return whether a gradient will be computed, and faster by `_TinyGrid` than by the CPU library."""
        training = torch.is_grad_enabled() and x.requires_grad
        tiny = self.stride == (1, 1) and x.device.type == "cpu" and max(x.shape[2:]) <= TINY
        return training and tiny and x.is_contiguous(memory_format=torch.channels_last)


def _is_plain(x: Tensor) -> bool:
    """Return whether a pass only computes.

    Tracing (torch.jit, torch.fx), compilation, torch.func, forward-mode derivatives and autocast know the operator of
    `nn.Conv2d`, and no gradient of our own.
    """
    traced = type(x) is not Tensor or torch.jit.is_tracing() or torch.compiler.is_compiling()  # type: ignore
    transformed = torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0
    return not (traced or transformed or torch.is_autocast_enabled("cpu"))


class _TinyGrid(torch.autograd.Function):
    """Depthwise convolution whose gradients are nine shifted products instead of library calls."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.has_bias = bias is not None
        return F.conv2d(x, weight, bias, 1, 1, 1, x.shape[1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        (grad,), (x, weight) = grads, ctx.saved_tensors
        height, width = grad.shape[2:]
        padded = F.pad(x, (1, 1, 1, 1))
        shifts = [padded[:, :, i : i + height, j : j + width] for i in range(3) for j in range(3)]
        grad_weight = torch.stack([(grad * shift).sum((0, 2, 3)) for shift in shifts], 1).view_as(weight)
        grad_x = F.conv2d(grad, weight.flip(2, 3), None, 1, 1, 1, x.shape[1])
        return grad_x, grad_weight, grad.sum((0, 2, 3)) if ctx.has_bias else None
