"""A network in another mode for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """In eval mode, where dropout and stochastic depth are gone; each submodule afterwards in the mode it came in."""
    before = {inner: inner.training for inner in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for inner, training in before.items():
            inner.training = training
