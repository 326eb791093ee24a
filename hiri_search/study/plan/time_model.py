"""Linear time model (MACs, activations) fitted by non-negative least squares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

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
    # For a single network nnls takes the first column: its time then grows with the activations.
    features = np.array([[work.activations, work.macs, 1.0] for work in works])
    scale = np.maximum(features.max(axis=0), 1e-12)
    coefficients, _ = nnls(features / scale / times[:, None], np.ones(len(times)))
    per_activation, per_mac, constant = (coefficients / scale).tolist()
    return TimeModel(constant, per_mac, per_activation)


def leave_one_out_error(works: Sequence[Workload], seconds: Sequence[float]) -> list[float]:
    """Return the relative error for each network of a model fitted to the others; empty below MIN_TIMED networks."""
    if len(works) < MIN_TIMED:
        return []
    rest = [[other for other in range(len(works)) if other != left_out] for left_out in range(len(works))]
    models = [fit([works[i] for i in indices], [seconds[i] for i in indices]) for indices in rest]
    return [model(work) / actual - 1 for model, work, actual in zip(models, works, seconds, strict=True)]
