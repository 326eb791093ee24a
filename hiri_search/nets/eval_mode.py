"""Context managers: eval mode, BatchNorm statistics restored, one CPU thread."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def eval_mode(module: nn.Module) -> Iterator[None]:
    """Set eval mode, without dropout and stochastic depth; restore the mode of each submodule at the end."""
    modes = {submodule: submodule.training for submodule in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for submodule, training in modes.items():
            submodule.training = training


@contextmanager
def frozen_bn_statistics(module: nn.Module) -> Iterator[None]:
    """Restore BatchNorm's running statistics at the end, whatever forward passes change."""
    statistics = bn_statistics(module)
    try:
        yield
    finally:
        restore(module, statistics)


def bn_statistics(module: nn.Module) -> list[Tensor]:
    """Copy the buffers of a network: its state that is learned without gradients."""
    return [buffer.clone() for buffer in module.buffers()]


@torch.no_grad()
def restore(module: nn.Module, statistics: list[Tensor]) -> None:
    """Write the result of `bn_statistics` back."""
    for buffer, saved in zip(module.buffers(), statistics, strict=True):
        buffer.copy_(saved)


@contextmanager
def one_thread() -> Iterator[None]:
    """Use one CPU thread: on a busy machine, several threads make passes of small modules ten times as slow."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
