"""Random generators of a trial: one per purpose and epoch, derived from its seed."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch


def derive(seed: int, purpose: str) -> int:
    """Return a seed under 2**32 for this purpose, the same on every machine."""
    return int.from_bytes(hashlib.sha256(f"{seed} {purpose}".encode()).digest()[:4], "big")


@dataclass(frozen=True)
class Generators:
    """Random generators of one epoch. Each epoch has its own, so that a resumed trial draws the same numbers."""

    order: torch.Generator  # order of the images
    augmentation: torch.Generator  # crop, flip, colour jitter, random erasing
    mixing: np.random.RandomState  # CutMix and Mixup


def epoch_generators(seed: int, epoch: int, rank: int = 0) -> Generators:
    """Return the generators of an epoch, and seed the global ones for the network itself (stochastic depth).

    Processes that train one network differ in the global ones alone: each has other images.
    """
    seed_globally(seed, f"network, epoch {epoch}" + (f", rank {rank}" if rank else ""))
    order, augmentation = (
        torch.Generator().manual_seed(derive(seed, f"{purpose}, epoch {epoch}"))
        for purpose in ("order", "augmentation")
    )
    return Generators(order, augmentation, np.random.RandomState(derive(seed, f"mixing, epoch {epoch}")))


def seed_globally(seed: int, purpose: str) -> None:
    """Seed the global generators of Python, numpy and torch, for code that takes no generator."""
    value = derive(seed, purpose)
    random.seed(value)
    np.random.seed(value)
    torch.manual_seed(value)


@contextmanager
def seeded_generators(seed: int) -> Iterator[None]:
    """Seed the global generators of Python, numpy and torch; restore them at the end."""
    python_state, numpy_state = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        try:
            random.seed(seed)
            np.random.seed(seed)
            torch.default_generator.manual_seed(seed)
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)
