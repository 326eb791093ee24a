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

from hiri_search.stats.significance import LEVEL, Estimate, p_text

MAX_EXACT_ITEMS = 40  # of more things than these the interval is that of large numbers
ROWS = 256  # things that are held against all others at once
MAX_ENUMERATED = 7  # so many things are put into each of their 5,040 orders; more of them into ORDERS by chance
PERMUTATIONS = 9_999
CERTAIN = 1e-9  # short of a tau of 1, which Fisher's scale does not hold
STEEPEST = 50.0  # a tilt that leaves nothing but the extreme

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Tau(Estimate):
    """Kendall's tau-b, and how often mere chance comes to one as far from 0."""

    p: float
    things: int

    def __str__(self) -> str:
        return f"{super().__str__()}, {p_text(self.p)}"


@dataclass(frozen=True)
class _NullDistribution:
    """How often each sum of concordant less discordant pairs comes up where the orders have nothing in common."""

    sums: Array
    chances: Array

    def tilted(self, tilt: float) -> Array:
        """Chances where each concordant pair is exp(2 tilt) times as likely as a discordant one: Mallows' model."""
        with np.errstate(divide="ignore"):
            logs = np.log(self.chances) + tilt * self.sums
        weights = np.exp(logs - logs.max())
        return np.asarray(weights / weights.sum())

    def mean(self, tilt: float) -> float:
        return float(self.tilted(tilt) @ self.sums)


def kendall_tau(one: npt.ArrayLike, other: npt.ArrayLike) -> Tau | None:
    """Kendall's tau-b of two scores of the same things, with an interval and the p of chance, two-sided.

    Up to MANY things: the exact test and its inversion under Mallows' model, so that the interval holds 0 where p is
    over 1 - LEVEL; beyond, the interval and the test of large numbers. None where tau is not
    defined: fewer than three things, or one of the scores the same for all.
    """
    ours, theirs = np.asarray(one, float), np.asarray(other, float)
    if len(ours) < 3 or np.ptp(ours) == 0 or np.ptp(theirs) == 0:
        return None
    found = stats.kendalltau(ours, theirs)
    if len(ours) > MAX_EXACT_ITEMS:
        return Tau(float(found.statistic), *_of_many(ours, theirs), float(found.pvalue), len(ours))
    total, null = float(_signs(ours) @ _signs(theirs)), _null(ours, theirs)
    scale = sqrt(_untied(_groups(ours)) * _untied(_groups(theirs)))  # tau-b's
    low, high = (bound / scale for bound in _inverted(null, total))
    p = float(null.chances[np.abs(null.sums) >= abs(total)].sum())
    return Tau(float(found.statistic), low, high, min(p, 1.0), len(ours))


def _inverted(null: _NullDistribution, total: float) -> tuple[float, float]:
    """The expected sums under which one as high, or as low, comes up with half of what is outside LEVEL."""
    tail = (1 - LEVEL) / 2

    def solved(outside: npt.NDArray[np.bool_]) -> float:
        gap: Callable[[float], float] = lambda tilt: float(null.tilted(tilt)[outside].sum()) - tail
        return null.mean(optimize.brentq(gap, -STEEPEST, STEEPEST))

    low = null.sums.min() if total <= null.sums.min() else solved(null.sums >= total)
    high = null.sums.max() if total >= null.sums.max() else solved(null.sums <= total)
    return float(low), float(high)


def _signs(scores: Array) -> Array:
    """Of each pair's difference, pairs in a fixed order; the last axis is the things."""
    first, second = np.triu_indices(scores.shape[-1], 1)
    return np.sign(scores[..., first] - scores[..., second])


def _null(one: Array, other: Array) -> _NullDistribution:
    """Exact, but where both have ties among more than ALL_ORDERS things."""
    fewer, more = sorted((_groups(scores) for scores in (one, other)), key=_untied, reverse=True)
    return _exact(more) if max(fewer) == 1 else _shuffled(one, other)


def _groups(scores: Array) -> tuple[int, ...]:
    """How many are tied with each other; 1 for those that are not."""
    return tuple(sorted(Counter(scores.tolist()).values()))


def _untied(groups: tuple[int, ...]) -> int:
    """Pairs that are not tied."""
    return comb(sum(groups), 2) - sum(comb(size, 2) for size in groups)


@cache
def _exact(ties: tuple[int, ...]) -> _NullDistribution:
    """Against scores without ties: each group adds its inversions with those before it, which are Mann-Whitney's U."""
    chances, before = np.ones(1), 0
    for size in ties:
        chances = np.asarray(np.convolve(chances, _mann_whitney(size, before)), dtype=np.float64)
        before += size
    pairs = len(chances) - 1
    return _NullDistribution(
        np.asarray(pairs - 2.0 * np.arange(pairs + 1), dtype=np.float64), np.asarray(chances, dtype=np.float64)
    )


@cache
def _mann_whitney(one: int, other: int) -> Array:
    """The chances of U = 0, 1, ..., one * other, by whose the highest is (Mann and Whitney 1947)."""
    if not one or not other:
        return np.ones(1)
    ours = np.pad(_mann_whitney(one - 1, other), (other, 0)) * one
    theirs = np.pad(_mann_whitney(one, other - 1), (0, one)) * other
    return (ours + theirs) / (one + other)


def _shuffled(one: Array, other: Array) -> _NullDistribution:
    """By putting one of them into all orders, or into many; the one that was found is among them."""
    count = len(one)
    if count <= MAX_ENUMERATED:
        orders = np.array([*permutations(range(count))])
    else:
        rng = np.random.default_rng(0)  # the same table, the same interval
        orders = np.vstack([np.arange(count), rng.permuted(np.tile(np.arange(count), (PERMUTATIONS, 1)), axis=1)])
    sums, counts = np.unique(_signs(other[orders]) @ _signs(one), return_counts=True)
    return _NullDistribution(sums, counts / counts.sum())


def _of_many(one: Array, other: Array) -> tuple[float, float]:
    """Normal, by the spread of each thing's own agreement with all others (Hoeffding 1948), whatever the scores.

    On Fisher's scale, the inverse hyperbolic tangent: on tau's own it would cover too seldom near 1.
    """
    things = len(one)
    own = np.concatenate([_agreement(one, other, at) for at in range(0, things, ROWS)])
    scale = sqrt(_untied(_groups(one)) * _untied(_groups(other))) / comb(things, 2)  # tau-b's
    tau, error = float(own.mean()) / scale, 2 * float(own.std(ddof=1)) / sqrt(things) / scale
    inside = min(max(tau, -1 + CERTAIN), 1 - CERTAIN)
    width = float(stats.norm.ppf((1 + LEVEL) / 2)) * error / (1 - inside**2)
    return float(np.tanh(np.arctanh(inside) - width)), float(np.tanh(np.arctanh(inside) + width))


def _agreement(one: Array, other: Array, at: int) -> Array:
    """Of each of some things the share of pairs with others that are concordant, less that of discordant ones."""
    ours, theirs = (np.sign(scores[at : at + ROWS, None] - scores) for scores in (one, other))
    return np.asarray((ours * theirs).sum(axis=1) / (len(one) - 1))
