"""BatchNorm over the images of all processes that train one network together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from timm.layers import convert_sync_batchnorm
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm


def synchronised(model: nn.Module) -> nn.Module:
    """Return the network with synchronised BatchNorm and the same parameters: torch's on CUDA, ours on the CPU."""
    if torch.cuda.is_available():
        converted: nn.Module = convert_sync_batchnorm(model)
        return converted
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.__class__ = CpuSyncBatchNorm
    return model


@contextmanager
def without_synchronised(model: nn.Module) -> Iterator[None]:
    """In the block, synchronised BatchNorm uses its running statistics, and so waits for no other process."""
    training = [m for m in model.modules() if isinstance(m, nn.SyncBatchNorm | CpuSyncBatchNorm) and m.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


class CpuSyncBatchNorm(_BatchNorm):
    """nn.SyncBatchNorm on the CPU, for maps of the same size in all processes, with the activation of timm's layers."""

    def forward(self, input: Tensor) -> Tensor:  # (B, C, ...)
        normalised = self._normalised(input) if self.training else super().forward(input)
        for name in ("drop", "act"):
            if hasattr(self, name):
                normalised = getattr(self, name)(normalised)
        return normalised

    def _check_input_dim(self, input: Tensor) -> None:
        """Take maps of any dimension."""

    def _normalised(self, input: Tensor) -> Tensor:
        others = [axis for axis in range(input.dim()) if axis != 1]
        variance, mean = torch.var_mean(input, others, correction=0)
        count = torch.full((1,), input.numel() / input.shape[1], dtype=torch.double)
        # In double precision: in single precision, the difference of large squares has no digits left.
        mean, variance = mean.double(), variance.double()
        sums = _Sum.apply(torch.cat([count, count * mean, count * (variance + mean**2)]))
        total, mean, square = torch.split(sums, [1, self.num_features, self.num_features])
        mean, square = mean / total, square / total
        variance = square - mean**2
        self._update(mean.detach(), variance.detach() * total / (total - 1))
        scale = (variance + self.eps).rsqrt()
        if self.weight is not None:
            scale = scale * self.weight
        shift = -mean * scale if self.bias is None else self.bias - mean * scale
        shape = [-1 if axis == 1 else 1 for axis in range(input.dim())]
        return input * scale.to(input.dtype).view(shape) + shift.to(input.dtype).view(shape)

    @torch.no_grad()
    def _update(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked += 1
        momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
        self.running_var.lerp_(variance.to(self.running_var.dtype), momentum)


class _Sum(torch.autograd.Function):
    """The sum of a tensor over all processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(context: Any, value: Tensor) -> Tensor:
        return _summed(value)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        return _summed(gradient)


def _summed(value: Tensor) -> Tensor:
    total = value.clone(memory_format=torch.contiguous_format)
    distributed.all_reduce(total)
    return total
