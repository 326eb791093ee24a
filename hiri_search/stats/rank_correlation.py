"""Kendall's tau with exact test and confidence interval, over all pairs of items or over pairs of like cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from math import comb, sqrt

import numpy as np
import numpy.typing as npt
from scipy import stats

from hiri_search.stats.null_distribution import (
    MAX_ENUMERATED,
    NullDistribution,
    Pairs,
    exact_null,
    inverted_test,
    null_distribution,
    pair_signs,
    permutation_null,
    tie_sizes,
    tie_sizes_of_both,
    untied_pairs,
)
from hiri_search.stats.order_verdict import OrderVerdict
from hiri_search.stats.significance import LEVEL, Array, Estimate, p_text

MAX_EXACT_ITEMS = 40  # for more items the test and the interval are asymptotic
LIKE_COST = 0.05  # relative difference of two costs that are alike
BAND_LEVEL = 0.90  # of the interval of tau beyond cost: its lower end is a one-sided test at 5 %
MIN_LIKE_ITEMS = 10  # in pairs of like cost; with fewer, tau beyond cost has no verdict
MIN_TAU_BEYOND_COST = 0.6  # estimate that a short training needs in order to pass
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
class BeyondCost:
    """Kendall's tau-b over the pairs of items of like cost, with its confidence interval at BAND_LEVEL."""

    value: float
    low: float
    high: float
    pairs: int  # of like cost
    items: int  # in these pairs

    def __str__(self) -> str:
        interval = f"{BAND_LEVEL:.0%} interval {self.low:.2f} to {self.high:.2f}"
        return f"{self.value:.2f} ({interval}; {self.pairs} pairs of like cost among {self.items} networks)"

    @property
    def verdict(self) -> OrderVerdict:
        """The verdict by the bar: the interval lies above 0, and the estimate is at least MIN_TAU_BEYOND_COST."""
        if self.items < MIN_LIKE_ITEMS:
            return OrderVerdict.TOO_FEW
        if self.low <= 0:
            return OrderVerdict.FAILS
        return OrderVerdict.PASSES if self.value >= MIN_TAU_BEYOND_COST else OrderVerdict.WEAK


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
    s, null = float(_all_signs(x) @ _all_signs(y)), null_distribution(x, y)
    scale = _tau_b_denominator(x, y)
    low, high = (bound / scale for bound in inverted_test(null, s, LEVEL))
    p = float(null.probabilities[np.abs(null.values) >= abs(s)].sum())
    return Tau(float(result.statistic), low, high, min(p, 1.0), len(x))


def tau_beyond_cost(
    first: npt.ArrayLike, second: npt.ArrayLike, cost: npt.ArrayLike, *, tolerance: float = LIKE_COST
) -> BeyondCost | None:
    """Return Kendall's tau-b over the pairs of items whose costs differ by at most `tolerance` of the smaller cost.

    Costs are positive. The null hypothesis is that one score has a random order within each group of items that pairs
    of like cost connect; between groups, both scores may depend on cost. The interval is by inversion of the exact
    test, as in `kendall_tau`, or on Fisher's scale where a group has no exact test (see `_Group.null`). Where a
    score is the same in all pairs, tau is 0 with an interval from -1 to 1. None where no two costs are alike.
    """
    groups = _groups_of_like_cost(first, second, cost, tolerance)
    if not groups:
        return None
    return BeyondCost(*_tau_of(groups), sum(len(g.pairs[0]) for g in groups), sum(len(g.x) for g in groups))


def s_beyond_cost(first: npt.ArrayLike, second: npt.ArrayLike, cost: npt.ArrayLike) -> int:
    """Return Kendall's S over pairs of like cost: those that both scores order alike, minus those ordered otherwise."""
    return int(sum(group.s for group in _groups_of_like_cost(first, second, cost, LIKE_COST)))


def like_cost_items(costs: npt.ArrayLike, *, tolerance: float = LIKE_COST) -> int:
    """Return the number of items that have another one of like cost."""
    ordered = np.sort(np.asarray(costs, float))
    like = ordered[1:] <= ordered[:-1] * (1 + tolerance)
    return int((np.append(like, False) | np.insert(like, 0, False)).sum())


def _groups_of_like_cost(
    first: npt.ArrayLike, second: npt.ArrayLike, cost: npt.ArrayLike, tolerance: float
) -> list[_Group]:
    """Return the groups of items that pairs of like cost connect."""
    order = np.argsort(np.asarray(cost, float), kind="stable")
    x, y, costs = (np.asarray(values, float)[order] for values in (first, second, cost))
    limits = costs * (1 + tolerance)
    ends = [*(np.flatnonzero(costs[1:] > limits[:-1]) + 1), len(costs)]
    slices = [slice(start, end) for start, end in zip([0, *ends], ends, strict=False) if end - start > 1]
    return [_Group(x[items], y[items], _like_pairs(costs[items], limits[items])) for items in slices]


def _like_pairs(costs: Array, limits: Array) -> Pairs:
    """Return the pairs of items of which the second costs at most the limit of the first; costs ascend."""
    first, second = np.triu_indices(len(costs), 1)
    like = costs[second] <= limits[first]
    return first[like], second[like]


@dataclass(frozen=True)
class _Group:
    """Two scores of items that pairs connect, directly or through others."""

    x: Array
    y: Array
    pairs: Pairs

    @property
    def s(self) -> float:
        """Kendall's S over the pairs."""
        return float(pair_signs(self.x, self.pairs) @ pair_signs(self.y, self.pairs))

    @property
    def untied(self) -> tuple[int, int]:
        """Number of pairs that differ in the first score, and in the second."""
        first, second = (int(np.count_nonzero(pair_signs(scores, self.pairs))) for scores in (self.x, self.y))
        return first, second

    def deviations(self, tau: float, ratio: float) -> Array:
        """Return the influence of each item on S: what its pairs add to S beyond tau-b times their denominator.

        `ratio` is the square root of the number of pairs untied in the second score for each that is in the first one.
        """
        x_signs, y_signs = pair_signs(self.x, self.pairs), pair_signs(self.y, self.pairs)
        beyond = x_signs * y_signs - tau * (x_signs**2 * ratio + y_signs**2 / ratio) / 2
        return np.bincount(np.concatenate(self.pairs), np.tile(beyond, 2)).astype(np.float64)

    def null(self) -> NullDistribution | None:
        """Return the null distribution of S.

        None for more than MAX_ENUMERATED items with ties in both scores or with pairs of unlike cost, and for more than
        MAX_EXACT_ITEMS items.
        """
        items = len(self.x)
        fewer_ties, more_ties = tie_sizes_of_both(self.x, self.y)
        if items <= MAX_EXACT_ITEMS and len(self.pairs[0]) == comb(items, 2) and max(fewer_ties) == 1:
            return exact_null(more_ties)
        return permutation_null(self.x, self.y, self.pairs) if items <= MAX_ENUMERATED else None

    def null_variance(self) -> float:
        """Return the variance of S over the permutations of `y`.

        Two pairs of other items are independent, so that only pairs with an item in common have a covariance.
        """
        items, signs = len(self.x), pair_signs(self.x, self.pairs)
        of_items = np.bincount(self.pairs[0], signs, items) - np.bincount(self.pairs[1], signs, items)
        own, common = float(signs @ signs), float(of_items @ of_items)
        y_signs = np.sign(self.y[:, None] - self.y)
        y_own, y_common = float((y_signs**2).sum()), float((y_signs.sum(axis=1) ** 2).sum())
        variance = own * y_own / (items * (items - 1))
        if items > 2:
            variance += (common - 2 * own) * (y_common - y_own) / (items * (items - 1) * (items - 2))
        return variance


def _tau_of(groups: Sequence[_Group]) -> tuple[float, float, float]:
    """Return tau-b over the pairs of all groups, and its interval at BAND_LEVEL."""
    s, variance = sum(group.s for group in groups), sum(group.null_variance() for group in groups)
    if not variance:
        return 0.0, -1.0, 1.0
    untied = [sum(group.untied[score] for group in groups) for score in (0, 1)]
    scale, exact = sqrt(untied[0] * untied[1]), [null for group in groups if (null := group.null())]
    if len(exact) == len(groups):
        low, high = inverted_test(reduce(NullDistribution.plus, exact), s, BAND_LEVEL)
        return s / scale, max(low / scale, -1.0), min(high / scale, 1.0)
    deviations = np.concatenate([group.deviations(s / scale, sqrt(untied[1] / untied[0])) for group in groups])
    return s / scale, *_fisher_interval(s, scale, sqrt(variance), sqrt(float(deviations @ deviations)))


def _fisher_interval(s: float, scale: float, null_error: float, error: float) -> tuple[float, float]:
    """Interval on Fisher's scale, the inverse hyperbolic tangent, by the larger of two standard errors of S.

    That of the null distribution is too small for a tau near 1 (Fieller, Hartley and Pearson 1957 use it for all); that
    from the spread of the concordances of single items, as in `_asymptotic_interval`, is 0 for equal orders. The ends
    have a continuity correction of 1, half the step of S.
    """
    tau = min(abs(s / scale), 1 - _ATANH_MARGIN)
    width = float(stats.norm.ppf((1 + BAND_LEVEL) / 2)) * max(null_error, error / (1 - tau**2)) / scale
    low, high = (np.arctanh(np.clip(end / scale, -1 + _ATANH_MARGIN, 1 - _ATANH_MARGIN)) for end in (s - 1, s + 1))
    return float(np.tanh(low - width)), float(np.tanh(high + width))


def _all_signs(scores: Array) -> Array:
    """Sign of the difference of each pair of items, in a fixed order; items are the last axis."""
    return pair_signs(scores, np.triu_indices(scores.shape[-1], 1))


def _tau_b_denominator(x: Array, y: Array) -> float:
    return sqrt(untied_pairs(tie_sizes(x)) * untied_pairs(tie_sizes(y)))


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
