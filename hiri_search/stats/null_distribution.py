"""Permutation null distribution of Kendall's S, and intervals by inversion of its test."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import permutations
from math import comb

import numpy as np
import numpy.typing as npt
from scipy import optimize

from hiri_search.stats.significance import Array

MAX_ENUMERATED = 7  # items whose permutations are all enumerated (5,040); for more, PERMUTATIONS are drawn
PERMUTATIONS = 9_999
MAX_TILT = 50.0  # at which Mallows' model has all its probability at an extreme

Pairs = tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]  # indices of the first and of the second item of each pair


@dataclass(frozen=True)
class NullDistribution:
    """Permutation null distribution of Kendall's S: concordant minus discordant pairs of two independent orders."""

    values: Array
    probabilities: Array

    def tilted(self, tilt: float) -> Array:
        """Probabilities where a concordant pair is exp(2 tilt) times as likely as a discordant one: Mallows' model."""
        with np.errstate(divide="ignore"):
            logs = np.log(self.probabilities) + tilt * self.values
        weights = np.exp(logs - logs.max())
        return np.asarray(weights / weights.sum())

    def plus(self, other: NullDistribution) -> NullDistribution:
        """Return the distribution of the sum of two independent S."""
        sums = np.add.outer(self.values, other.values).ravel()
        values, index = np.unique(sums, return_inverse=True)
        weights = np.multiply.outer(self.probabilities, other.probabilities).ravel()
        return NullDistribution(values, np.bincount(index, weights).astype(np.float64))


def inverted_test(null: NullDistribution, s: float, level: float) -> tuple[float, float]:
    """The expected values of S at which a result as high, or as low, as `s` has probability (1 - level) / 2."""
    tail = (1 - level) / 2

    def expected(region: npt.NDArray[np.bool_]) -> float:
        excess: Callable[[float], float] = lambda tilt: float(null.tilted(tilt)[region].sum()) - tail
        return float(null.tilted(optimize.brentq(excess, -MAX_TILT, MAX_TILT)) @ null.values)

    low = null.values.min() if s <= null.values.min() else expected(null.values >= s)
    high = null.values.max() if s >= null.values.max() else expected(null.values <= s)
    return float(low), float(high)


def null_distribution(x: Array, y: Array) -> NullDistribution:
    """Exact, except where both scores have ties and there are more than MAX_ENUMERATED items."""
    fewer_ties, more_ties = tie_sizes_of_both(x, y)
    if max(fewer_ties) == 1:
        return exact_null(more_ties)
    return permutation_null(x, y, np.triu_indices(len(x), 1))


def tie_sizes_of_both(x: Array, y: Array) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the tie sizes of the score with fewer ties, then of the other one."""
    fewer, more = sorted((tie_sizes(scores) for scores in (x, y)), key=untied_pairs, reverse=True)
    return fewer, more


def tie_sizes(scores: Array) -> tuple[int, ...]:
    """Sizes of the groups of equal scores; 1 for a score without ties."""
    return tuple(sorted(Counter(scores.tolist()).values()))


def untied_pairs(sizes: tuple[int, ...]) -> int:
    """Number of pairs of items with different scores, from the tie sizes."""
    return comb(sum(sizes), 2) - sum(comb(size, 2) for size in sizes)


def pair_signs(scores: Array, pairs: Pairs) -> Array:
    """Sign of the difference of each pair of items; items are the last axis."""
    return np.sign(scores[..., pairs[0]] - scores[..., pairs[1]])


@cache
def exact_null(sizes: tuple[int, ...]) -> NullDistribution:
    """Null distribution for ties in one score only, of these sizes: each group's inversions are Mann-Whitney's U."""
    probabilities, items = np.ones(1), 0
    for size in sizes:
        probabilities = np.asarray(np.convolve(probabilities, _mann_whitney(size, items)), dtype=np.float64)
        items += size
    pairs = len(probabilities) - 1
    return NullDistribution(np.asarray(pairs - 2.0 * np.arange(pairs + 1), dtype=np.float64), probabilities)


@cache
def _mann_whitney(m: int, n: int) -> Array:
    """Probabilities of U = 0, 1, ..., m * n, recursively by the group of the largest item (Mann and Whitney 1947)."""
    if not m or not n:
        return np.ones(1)
    largest_in_first = np.pad(_mann_whitney(m - 1, n), (n, 0)) * m
    largest_in_second = np.pad(_mann_whitney(m, n - 1), (0, m)) * n
    return (largest_in_first + largest_in_second) / (m + n)


def permutation_null(x: Array, y: Array, pairs: Pairs) -> NullDistribution:
    """Null distribution of S over `pairs`, over all permutations of `y`, or over random ones and the observed one."""
    values, counts = np.unique(pair_signs(y[_orders(len(x))], pairs) @ pair_signs(x, pairs), return_counts=True)
    return NullDistribution(values, counts / counts.sum())


@cache
def _orders(items: int) -> npt.NDArray[np.intp]:
    """All orders of so many items, or random ones and the order 0, 1, ...; one in each row."""
    if items <= MAX_ENUMERATED:
        return np.array([*permutations(range(items))])
    rng = np.random.default_rng(0)  # fixed, so that equal scores give equal intervals
    return np.vstack([np.arange(items), rng.permuted(np.tile(np.arange(items), (PERMUTATIONS, 1)), axis=1)])
