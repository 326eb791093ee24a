"""Context managers: eval mode, BatchNorm statistics held, one CPU thread."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def eval_mode(module: nn.Module) -> Iterator[None]:
    """In eval mode, where dropout and stochastic depth are gone; each submodule afterwards in the mode it came in."""
    before = {inner: inner.training for inner in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for inner, training in before.items():
            inner.training = training


@contextmanager
def frozen_bn_statistics(module: nn.Module) -> Iterator[None]:
    """BatchNorm's running statistics stay as they are, whatever runs through the network in here, in any mode."""
    kept = bn_statistics(module)
    try:
        yield
    finally:
        restore(module, kept)


def bn_statistics(module: nn.Module) -> list[Tensor]:
    """A copy of what a network learns without gradients: its buffers."""
    return [buffer.clone() for buffer in module.buffers()]


@torch.no_grad()
def restore(module: nn.Module, kept: list[Tensor]) -> None:
    """Back to what `statistics` gave."""
    for buffer, before in zip(module.buffers(), kept, strict=True):
        buffer.copy_(before)


@contextmanager
def one_thread() -> Iterator[None]:
    """Passes of many small modules: on a busy machine several threads wait for each other, ten times as long."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
