"""Numbers with intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

RESAMPLES = 2000
LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A number and the interval that covers it at `LEVEL`."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} ({LEVEL:.0%} interval {self.low:.2f} to {self.high:.2f})"


def kendall(one: npt.ArrayLike, other: npt.ArrayLike) -> Estimate | None:
    """Kendall's tau-b of two scores of the same things, with a bootstrap interval over the things (percentiles).

    None where it is not defined: fewer than three things, or one of the scores the same for all.
    """
    pairs = np.column_stack([np.asarray(one, float), np.asarray(other, float)])
    if len(pairs) < 3:
        return None
    value = _tau(pairs)
    if np.isnan(value):
        return None
    rng = np.random.default_rng(0)  # the same table, the same interval
    again = [_tau(pairs[rng.integers(len(pairs), size=len(pairs))]) for _ in range(RESAMPLES)]
    low, high = np.nanquantile(again, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(value, float(low), float(high))


def _tau(pairs: npt.NDArray[np.float64]) -> float:
    return float(stats.kendalltau(pairs[:, 0], pairs[:, 1]).statistic)
