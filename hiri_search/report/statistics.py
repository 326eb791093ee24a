"""Numbers with intervals."""

from __future__ import annotations

from collections.abc import Iterable
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


def mean_interval(values: Iterable[float], *, level: float = LEVEL) -> Estimate | None:
    """The mean with Student's interval.

    None where there is no spread to judge by: fewer than two values, or all the same to the last digit, as top-1 on a
    few hundred pictures can be by chance.
    """
    known = np.array([*values], float)
    if len(known) < 2 or np.ptp(known) == 0:
        return None
    low, high = stats.ttest_1samp(known, 0).confidence_interval(level)
    return Estimate(float(known.mean()), float(low), float(high))


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
