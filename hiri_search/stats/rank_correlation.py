"""Kendall's tau with exact test and confidence interval."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import permutations
from math import comb, sqrt

import numpy as np
import numpy.typing as npt
from scipy import optimize, stats

from hiri_search.stats.significance import LEVEL, Array, Estimate, p_text

MAX_EXACT_ITEMS = 40  # for more items the test and the interval are asymptotic
MAX_ENUMERATED = 7  # items whose permutations are all enumerated (5,040); for more, PERMUTATIONS are drawn
PERMUTATIONS = 9_999
MAX_TILT = 50.0  # at which Mallows' model has all its probability at an extreme
_BLOCK_ROWS = 256  # items that are compared with all others in one array operation
_ATANH_MARGIN = 1e-9  # distance from a tau of 1, where the inverse hyperbolic tangent is infinite


@dataclass(frozen=True)
class Tau(Estimate):
    """Kendall's tau-b with its confidence interval and two-sided p."""

    p: float
    items: int

    def __str__(self) -> str:
        return f"{super().__str__()}, {p_text(self.p)}"


@dataclass(frozen=True)
class _NullDistribution:
    """Permutation null distribution of Kendall's S: concordant minus discordant pairs of two independent orders."""

    values: Array
    probabilities: Array

    def tilted(self, tilt: float) -> Array:
        """Probabilities where a concordant pair is exp(2 tilt) times as likely as a discordant one: Mallows' model."""
        with np.errstate(divide="ignore"):
            logs = np.log(self.probabilities) + tilt * self.values
        weights = np.exp(logs - logs.max())
        return np.asarray(weights / weights.sum())


def kendall_tau(first: npt.ArrayLike, second: npt.ArrayLike) -> Tau | None:
    """Return Kendall's tau-b of two scores of the same items, with a confidence interval and a two-sided p.

    Up to MAX_EXACT_ITEMS: the exact test, and an interval by its inversion under Mallows' model, which contains 0 where
    p > 1 - LEVEL. For more items: the asymptotic test and interval. None where tau is not defined: for fewer than three
    items, or where all scores are equal.
    """
    x, y = np.asarray(first, float), np.asarray(second, float)
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    result = stats.kendalltau(x, y)
    if len(x) > MAX_EXACT_ITEMS:
        return Tau(float(result.statistic), *_asymptotic_interval(x, y), float(result.pvalue), len(x))
    s, null = float(_pair_signs(x) @ _pair_signs(y)), _null_distribution(x, y)
    scale = _tau_b_denominator(x, y)
    low, high = (bound / scale for bound in _inverted_test(null, s))
    p = float(null.probabilities[np.abs(null.values) >= abs(s)].sum())
    return Tau(float(result.statistic), low, high, min(p, 1.0), len(x))


def _inverted_test(null: _NullDistribution, s: float) -> tuple[float, float]:
    """The expected values of S at which a result as high, or as low, as `s` has probability (1 - LEVEL) / 2."""
    tail = (1 - LEVEL) / 2

    def expected(region: npt.NDArray[np.bool_]) -> float:
        excess: Callable[[float], float] = lambda tilt: float(null.tilted(tilt)[region].sum()) - tail
        return float(null.tilted(optimize.brentq(excess, -MAX_TILT, MAX_TILT)) @ null.values)

    low = null.values.min() if s <= null.values.min() else expected(null.values >= s)
    high = null.values.max() if s >= null.values.max() else expected(null.values <= s)
    return float(low), float(high)


def _pair_signs(scores: Array) -> Array:
    """Sign of the difference of each pair of items, in a fixed order; items are the last axis."""
    first, second = np.triu_indices(scores.shape[-1], 1)
    return np.sign(scores[..., first] - scores[..., second])


def _null_distribution(x: Array, y: Array) -> _NullDistribution:
    """Exact, except where both scores have ties and there are more than MAX_ENUMERATED items."""
    fewer_ties, more_ties = sorted((_tie_sizes(scores) for scores in (x, y)), key=_untied_pairs, reverse=True)
    return _exact_null(more_ties) if max(fewer_ties) == 1 else _permutation_null(x, y)


def _tie_sizes(scores: Array) -> tuple[int, ...]:
    """Sizes of the groups of equal scores; 1 for a score without ties."""
    return tuple(sorted(Counter(scores.tolist()).values()))


def _untied_pairs(tie_sizes: tuple[int, ...]) -> int:
    return comb(sum(tie_sizes), 2) - sum(comb(size, 2) for size in tie_sizes)


def _tau_b_denominator(x: Array, y: Array) -> float:
    return sqrt(_untied_pairs(_tie_sizes(x)) * _untied_pairs(_tie_sizes(y)))


@cache
def _exact_null(tie_sizes: tuple[int, ...]) -> _NullDistribution:
    """Null distribution for ties in one score only: each group adds its inversions, which are Mann-Whitney's U."""
    probabilities, items = np.ones(1), 0
    for size in tie_sizes:
        probabilities = np.asarray(np.convolve(probabilities, _mann_whitney(size, items)), dtype=np.float64)
        items += size
    pairs = len(probabilities) - 1
    return _NullDistribution(np.asarray(pairs - 2.0 * np.arange(pairs + 1), dtype=np.float64), probabilities)


@cache
def _mann_whitney(m: int, n: int) -> Array:
    """Probabilities of U = 0, 1, ..., m * n, recursively by the group of the largest item (Mann and Whitney 1947)."""
    if not m or not n:
        return np.ones(1)
    largest_in_first = np.pad(_mann_whitney(m - 1, n), (n, 0)) * m
    largest_in_second = np.pad(_mann_whitney(m, n - 1), (0, m)) * n
    return (largest_in_first + largest_in_second) / (m + n)


def _permutation_null(x: Array, y: Array) -> _NullDistribution:
    """Null distribution over all permutations of `y`, or over random ones and the observed one."""
    items = len(x)
    if items <= MAX_ENUMERATED:
        orders = np.array([*permutations(range(items))])
    else:
        rng = np.random.default_rng(0)  # fixed, so that equal scores give equal intervals
        orders = np.vstack([np.arange(items), rng.permuted(np.tile(np.arange(items), (PERMUTATIONS, 1)), axis=1)])
    values, counts = np.unique(_pair_signs(y[orders]) @ _pair_signs(x), return_counts=True)
    return _NullDistribution(values, counts / counts.sum())


def _asymptotic_interval(x: Array, y: Array) -> tuple[float, float]:
    """Normal interval from the spread of the concordances of single items (Hoeffding 1948), for any distribution.

    Computed on Fisher's scale, the inverse hyperbolic tangent: on the scale of tau, coverage is too low near 1.
    """
    items = len(x)
    concordances = np.concatenate([_concordances(x, y, start) for start in range(0, items, _BLOCK_ROWS)])
    scale = _tau_b_denominator(x, y) / comb(items, 2)
    tau, error = float(concordances.mean()) / scale, 2 * float(concordances.std(ddof=1)) / sqrt(items) / scale
    tau = min(max(tau, -1 + _ATANH_MARGIN), 1 - _ATANH_MARGIN)
    width = float(stats.norm.ppf((1 + LEVEL) / 2)) * error / (1 - tau**2)
    return float(np.tanh(np.arctanh(tau) - width)), float(np.tanh(np.arctanh(tau) + width))


def _concordances(x: Array, y: Array, start: int) -> Array:
    """Share of concordant minus discordant pairs of each item with all others, for a block of items."""
    x_signs, y_signs = (np.sign(scores[start : start + _BLOCK_ROWS, None] - scores) for scores in (x, y))
    return np.asarray((x_signs * y_signs).sum(axis=1) / (len(x) - 1))
