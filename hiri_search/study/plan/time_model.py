"""Linear time model (MACs, activations) fitted by non-negative least squares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.float64]

MIN_TIMED = 4  # networks for leave-one-out errors: the model has three coefficients


@dataclass(frozen=True)
class Workload:
    """Multiply-adds and memory writes of a computation."""

    macs: float
    activations: float  # elements written to memory

    def __mul__(self, factor: float) -> Workload:
        return Workload(self.macs * factor, self.activations * factor)


@dataclass(frozen=True)
class TimeModel:
    """Linear model of seconds with a constant, a coefficient per multiply-add and one per activation; none negative."""

    constant: float
    per_mac: float
    per_activation: float

    def __call__(self, work: Workload) -> float:
        return self.constant + self.per_mac * work.macs + self.per_activation * work.activations


def fit(works: Sequence[Workload], seconds: Sequence[float]) -> TimeModel:
    """Return the model with the least squared relative errors; more work never takes less time."""
    times = np.maximum(seconds, 1e-12)
    features = np.array([[1.0, work.macs, work.activations] for work in works])
    scale = np.maximum(features.max(axis=0), 1e-12)
    coefficients = _non_negative_least_squares(features / scale / times[:, None])
    return TimeModel(*(coefficients / scale).tolist())


def _non_negative_least_squares(features: FloatArray) -> FloatArray:
    """Return coefficients >= 0 with which the rows of the (N, 3) features come nearest to 1.

    The solution is the plain least-squares solution of its non-zero coefficients; all 8 choices of these are tried.
    """
    ones = np.ones(len(features))
    best, least = np.zeros(features.shape[1]), float("inf")
    for chosen in sorted(product([False, True], repeat=features.shape[1]), key=sum):
        coefficients = np.zeros(features.shape[1])
        coefficients[list(chosen)] = np.linalg.lstsq(features[:, chosen], ones, rcond=None)[0]
        error = float(((features @ coefficients - ones) ** 2).sum())
        if (coefficients >= 0).all() and error < least - 1e-12:  # among equal errors the fewest coefficients win
            best, least = coefficients, error
    return best


def leave_one_out_error(works: Sequence[Workload], seconds: Sequence[float]) -> list[float]:
    """Return the relative error for each network of a model fitted to the others; empty below MIN_TIMED networks."""
    if len(works) < MIN_TIMED:
        return []
    rest = [[other for other in range(len(works)) if other != left_out] for left_out in range(len(works))]
    models = [fit([works[i] for i in indices], [seconds[i] for i in indices]) for indices in rest]
    return [model(work) / actual - 1 for model, work, actual in zip(models, works, seconds, strict=True)]
