"""Random generators of a trial: one per purpose and epoch, derived from its seed."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass

import numpy as np
import torch


def derive(seed: int, purpose: str) -> int:
    """A number under 2**32 that is the purpose's own, the same on every machine."""
    return int.from_bytes(hashlib.sha256(f"{seed} {purpose}".encode()).digest()[:4], "big")


@dataclass(frozen=True)
class Generators:
    """What draws within one epoch. Each epoch has its own, so that a trial that goes on draws what it would have."""

    order: torch.Generator  # of the images
    augmentation: torch.Generator  # where they are cropped, flipped, coloured, erased
    mixing: np.random.RandomState  # CutMix and Mixup


def epoch_generators(seed: int, epoch: int) -> Generators:
    """The sources of an epoch; what the network itself draws (stochastic depth) comes from torch's global state."""
    seed_globally(seed, f"network, epoch {epoch}")
    order, augmentation = (
        torch.Generator().manual_seed(derive(seed, f"{purpose}, epoch {epoch}"))
        for purpose in ("order", "augmentation")
    )
    return Generators(order, augmentation, np.random.RandomState(derive(seed, f"mixing, epoch {epoch}")))


def seed_globally(seed: int, purpose: str) -> None:
    """For libraries that ask nobody where to draw from."""
    value = derive(seed, purpose)
    random.seed(value)
    np.random.seed(value)
    torch.manual_seed(value)
