"""Linear time model (MACs, activations) fitted by non-negative least squares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.float64]

MIN_TIMED = 4  # points that one can be left out of: three decide a law


@dataclass(frozen=True)
class Workload:
    """What a device has to do."""

    macs: float
    activations: float  # numbers written to memory

    def __mul__(self, times: float) -> Workload:
        return Workload(self.macs * times, self.activations * times)


@dataclass(frozen=True)
class TimeModel:
    """Seconds are a constant, so much for each multiply-add and so much for each number written; never under 0."""

    constant: float
    by_mac: float
    by_number: float

    def __call__(self, work: Workload) -> float:
        return self.constant + self.by_mac * work.macs + self.by_number * work.activations


def fit(works: Sequence[Workload], seconds: Sequence[float]) -> TimeModel:
    """The law of the least squares of relative errors; no coefficient is negative, so that more never takes less."""
    times = np.maximum(seconds, 1e-12)
    features = np.array([[1.0, work.macs, work.activations] for work in works])
    scale = np.maximum(features.max(axis=0), 1e-12)
    found = _not_negative(features / scale / times[:, None])
    return TimeModel(*(found / scale).tolist())


def _not_negative(features: FloatArray) -> FloatArray:
    """Coefficients of 0 or more that bring each row of (N, 3) features nearest to 1.

    They are the plain least squares of those that are not 0, and there are few choices of which that are.
    """
    ones = np.ones(len(features))
    best, least = np.zeros(features.shape[1]), float("inf")
    for chosen in sorted(product([False, True], repeat=features.shape[1]), key=sum):
        found = np.zeros(features.shape[1])
        found[list(chosen)] = np.linalg.lstsq(features[:, chosen], ones, rcond=None)[0]
        off = float(((features @ found - ones) ** 2).sum())
        if (found >= 0).all() and off < least - 1e-12:  # of equals the one with the fewest coefficients
            best, least = found, off
    return best


def leave_one_out_error(works: Sequence[Workload], seconds: Sequence[float]) -> list[float]:
    """How far off, relatively, each time is by the law of the others; empty where these are too few for a law."""
    if len(works) < MIN_TIMED:
        return []
    whole = range(len(works))
    others = [[other for other in whole if other != one] for one in whole]
    laws = [fit([works[i] for i in rest], [seconds[i] for i in rest]) for rest in others]
    return [law(work) / taken - 1 for law, work, taken in zip(laws, works, seconds, strict=True)]
