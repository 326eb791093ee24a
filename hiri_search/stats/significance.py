"""Confidence intervals, paired t-tests with Holm's correction, and power."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import combinations
from math import fsum, sqrt

import numpy as np
import numpy.typing as npt
from scipy import special  # Student's t: 100 times as fast as scipy.stats, which checks for NaN
from statsmodels.stats.power import TTestPower
from statsmodels.stats.proportion import proportion_confint

from hiri_search.stats.sequential import SequentialTest

LEVEL = 0.95  # of confidence; 1 - LEVEL is the significance level
POWER = 0.80  # probability of a significant result if the true difference is worthwhile
MAX_ESTIMATED_SEEDS = 10_000
_DECIMALS = 9  # of a difference; later digits are rounding errors

Array = npt.NDArray[np.float64]
Scores = Mapping[str, Mapping[int, float]]  # by row and seed
Pair = tuple[str, str]  # a row, and the row that it is compared with


@dataclass(frozen=True)
class Scale:
    """The direction and the unit of a score, for differences."""

    up: bool = True  # a larger score is better
    worthwhile: float | None = 0.5  # the smallest difference of interest; None: not known
    unit: str = "points"


POINTS = Scale()


@dataclass(frozen=True)
class Estimate:
    """An estimate with its confidence interval at `LEVEL`."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} ({LEVEL:.0%} interval {self.low:.2f} to {self.high:.2f})"


def mean_interval(values: Iterable[float], *, level: float = LEVEL) -> Estimate | None:
    """Return the mean with Student's confidence interval.

    None where the variance cannot be estimated: for fewer than two values, or where all values are equal, as a
    percentage of a few hundred images can be by chance.
    """
    sample = [*values]
    if not _vary(sample):
        return None
    mean, error = _mean_and_error(sample)
    half = error * float(special.stdtrit(len(sample) - 1, (1 + level) / 2))
    return Estimate(mean, mean - half, mean + half)


def share_interval(percent: float, count: int) -> Estimate:
    """Return a percentage of `count` images with Wilson's confidence interval: that of these images as a sample."""
    low, high = proportion_confint(percent * count / 100, count, alpha=1 - LEVEL, method="wilson")
    return Estimate(percent, 100 * float(low), 100 * float(high))


def _mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    mean, count = fsum(values) / len(values), len(values)  # of few values: much faster than numpy
    return mean, sqrt(fsum((value - mean) ** 2 for value in values) / (count - 1) / count)


def _vary(values: Sequence[float]) -> bool:
    return bool(values) and max(values) - min(values) > 10**-_DECIMALS


@dataclass(frozen=True)
class Comparison:
    """Paired comparison of two rows: the score of `row` minus the score of `against`, for each shared seed.

    Paired, because trials with the same seed share the order of their images and much of their random variation.
    """

    row: str
    against: str
    differences: tuple[float, ...]  # in the unit of the scale, one for each shared seed
    family: int = 1  # number of comparisons tested together, this one included
    p_holm: float | None = None  # p with Holm's correction for the family; None: not tested
    scale: Scale = POINTS
    stated: int = 0  # sign that the gain was stated to have, before the trainings: a one-sided test; 0: two-sided
    test: SequentialTest | None = None  # seeds were added one by one, in the order of `differences`; None: all at once

    @property
    def seeds(self) -> int:
        return len(self.differences)

    @property
    def gain(self) -> float | None:
        """Mean difference; None without a shared seed."""
        return float(np.mean(self.differences)) if self.differences else None

    @property
    def interval(self) -> Estimate | None:
        """The gain with its confidence interval, for this comparison alone."""
        return self._interval(LEVEL)

    @property
    def simultaneous_interval(self) -> Estimate | None:
        """The gain with its Bonferroni interval: all intervals of the family hold at once at LEVEL."""
        return self._interval(1 - (1 - LEVEL) / self.family)

    def _interval(self, level: float) -> Estimate | None:
        """Return Student's interval; of a sequential test the repeated interval, with one level for all looks."""
        if self.test is None:
            return mean_interval(self.differences, level=level)
        if not self.statistics or self.statistics[-1] is None:
            return None
        mean, error = _mean_and_error(self.differences)
        half = error * self.test.critical(self.seeds, (1 - level) / 2)
        return Estimate(mean, mean - half, mean + half)

    @cached_property
    def statistics(self) -> tuple[float | None, ...]:
        """Student's t at each look, the only one with all seeds or one after each; None where nothing varies."""
        looks = range(self.test.first if self.test else self.seeds, self.seeds + 1)
        return tuple(_student_t(self.differences[:seeds]) for seeds in looks)

    def one_sided_p(self, sign: int) -> float | None:
        """Return p for a gain of this sign as the alternative, not corrected; None where nothing can be tested."""
        signed = [None if t is None else sign * t for t in self.statistics]
        if self.test and any(t is not None for t in signed):
            return self.test.p(signed)
        return None if self.test or signed[0] is None else float(special.stdtr(self.seeds - 1, -signed[0]))

    @property
    def two_sided_p(self) -> float | None:
        """Two-sided p of the paired t-test, not corrected."""
        above, below = self.one_sided_p(1), self.one_sided_p(-1)
        return None if above is None or below is None else min(1.0, 2 * min(above, below))

    @property
    def p(self) -> float | None:
        """p of the paired t-test, not corrected: one-sided where a sign was stated."""
        return self.one_sided_p(self.stated) if self.stated else self.two_sided_p

    @property
    def sign(self) -> int:
        """Sign of the gain by the look that says most: a later look may say less, or the opposite."""
        above, below = self.one_sided_p(1), self.one_sided_p(-1)
        return 0 if above is None or below is None else int(np.sign(below - above))

    @property
    def is_opposite(self) -> bool:
        """True if the gain has the other sign than was stated: the one-sided test cannot show it."""
        return self.stated * (self.gain or 0.0) < 0

    @property
    def significant(self) -> bool:
        """True if the difference is significant after Holm's correction."""
        return self.p_holm is not None and self.p_holm <= 1 - LEVEL

    @property
    def seeds_to_show(self) -> int | None:
        """Seeds, all at once, with which a worthwhile gain is significant with probability POWER.

        At the measured variance; None if it cannot be estimated, if it is not known which gain is worthwhile, or for
        more than MAX_ESTIMATED_SEEDS.
        """
        if self.scale.worthwhile is None or not _vary(self.differences):
            return None
        spread = float(np.std(self.differences, ddof=1)) / self.scale.worthwhile
        return seeds_needed(spread, self.family, one_sided=self.stated != 0)

    @property
    def more_seeds(self) -> int | None:
        """Seeds to add to reach `seeds_to_show`; 0 if there are enough."""
        return None if (needed := self.seeds_to_show) is None else max(0, needed - self.seeds)


def _student_t(differences: Sequence[float]) -> float | None:
    if not _vary(differences):
        return None
    mean, error = _mean_and_error(differences)
    return mean / error


def compare_pairs(
    pairs: Sequence[Pair],
    scores: Scores,
    scale: Scale = POINTS,
    *,
    stated: Mapping[Pair, int] | None = None,
    test: SequentialTest | None = None,
    all_pairs: bool = False,
) -> list[Comparison]:
    """Compare the two rows of each pair over their shared seeds, with Holm's correction over these pairs.

    `stated` are the signs of gains that were stated before the trainings; `test` says that seeds were added one by one,
    in the order of the scores. With `all_pairs` the correction is for all pairs of rows: these were chosen by the same
    scores. A pair that cannot be tested does not count, unless seeds are added until it can. Tests of pairs with a
    common row are dependent; Holm's correction is valid for dependent tests too.
    """
    compared = [
        Comparison(*pair, _differences(scores, *pair), scale=scale, stated=(stated or {}).get(pair, 0), test=test)
        for pair in pairs
    ]
    tested = [row for row in scores if scores[row]] if all_pairs else []
    p = _p_of_all_pairs(scores, tested, test) if all_pairs else [comparison.p for comparison in compared]
    corrected, family = _holm(np.array(p, float), count_all=test is not None)
    by_pair = dict(
        zip(map(frozenset, combinations(tested, 2) if all_pairs else pairs), corrected.tolist(), strict=True)
    )
    return [
        replace(each, family=family, p_holm=None if np.isnan(p := by_pair.get(frozenset(pair), np.nan)) else p)
        for pair, each in zip(pairs, compared, strict=True)
    ]


def _holm(p: Array, *, count_all: bool) -> tuple[Array, int]:
    """Each p with Holm's correction, and the number of comparisons tested together; NaN for those not tested."""
    corrected, tested = np.full_like(p, np.nan), int((~np.isnan(p)).sum())
    order, family = np.argsort(p)[:tested], len(p) if count_all else tested  # NaN is last
    corrected[order] = np.minimum(1, np.maximum.accumulate(p[order] * (family - np.arange(tested))))
    return corrected, max(1, family)


def _differences(scores: Scores, row: str, against: str) -> tuple[float, ...]:
    first, second = scores.get(row, {}), scores.get(against, {})
    return tuple(round(first[seed] - second[seed], _DECIMALS) for seed in first if seed in second)


def against_best(scores: Scores, scale: Scale = POINTS, *, test: SequentialTest | None = None) -> list[Comparison]:
    """Compare every other row with the row of the best mean, in the order of `scores`.

    The best row is chosen by the same scores, so that any pair could have been the compared one: the correction is for
    all pairs of rows.
    """
    means = {row: np.mean([*seeds.values()]) for row, seeds in scores.items() if seeds}
    if len(means) < 2:
        return []
    best = (max if scale.up else min)(means, key=lambda row: means[row])
    return compare_pairs([(row, best) for row in means if row != best], scores, scale, test=test, all_pairs=True)


def _p_of_all_pairs(scores: Scores, rows: Sequence[str], test: SequentialTest | None) -> Array:
    """`Comparison.p` of all pairs of rows, NaN instead of None; 1,000 rows with 500,000 pairs take a second."""
    if test:
        each = (Comparison(*pair, _differences(scores, *pair), test=test).p for pair in combinations(rows, 2))
        return np.array([*each], float)
    seeds = sorted({seed for row in rows for seed in scores[row]})
    table = np.array([[scores[row].get(seed, np.nan) for seed in seeds] for row in rows])
    return np.concatenate([_p_of_pairs(np.round(row - table[at:], _DECIMALS)) for at, row in enumerate(table[:-1], 1)])


def _p_of_pairs(differences: Array) -> Array:
    """Two-sided p of the paired t-test for each row of (pairs, seeds) differences, NaN where a seed is not shared."""
    shared = ~np.isnan(differences)
    values, count = np.where(shared, differences, 0.0), shared.sum(axis=1)
    mean = values.sum(axis=1) / np.maximum(count, 1)
    squares = np.where(shared, (differences - mean[:, None]) ** 2, 0.0).sum(axis=1)
    low, high = (np.where(shared, differences, end).T for end in (np.inf, -np.inf))
    vary = (count > 1) & (high.max(axis=0) > low.min(axis=0))
    p = np.full(len(differences), np.nan)
    error = np.sqrt(squares[vary] / (count[vary] - 1) / count[vary])
    p[vary] = 2 * special.stdtr(count[vary] - 1, -np.abs(mean[vary] / error))
    return p


def clear_best(scores: Scores, scale: Scale = POINTS, *, test: SequentialTest | None = None) -> str | None:
    """The row that is significantly better than every other row; None if there is none."""
    comparisons = against_best(scores, scale, test=test)
    worse = (each.significant and ((each.gain or 0) < 0) == scale.up for each in comparisons)
    return comparisons[0].against if comparisons and all(worse) else None


@cache
def seeds_needed(spread: float, family: int = 1, *, one_sided: bool = False) -> int | None:
    """Seeds for a power of POWER to detect a gain, if differences have the standard deviation `spread`, in such gains.

    The test is the paired t-test at Bonferroni's level for the family, which is the first and strictest step of Holm's
    correction. None for more than MAX_ESTIMATED_SEEDS.
    """
    power, alternative = TTestPower(), "larger" if one_sided else "two-sided"

    def enough(seeds: int) -> bool:
        return float(power.power(1 / spread, seeds, (1 - LEVEL) / family, alternative=alternative)) >= POWER

    low, high = 1, 2  # bounds of a bisection: `low` is not enough
    while not enough(high):
        if high > MAX_ESTIMATED_SEEDS:
            return None
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high if high <= MAX_ESTIMATED_SEEDS else None


def p_text(p: float | None) -> str:
    """Format p as `p = 0.012` or `p < 0.001`."""
    if p is None:
        return "no p"
    rounded = round(p, 3)
    crossed = rounded <= 1 - LEVEL < p  # a p above the significance level is not rounded down to the level
    return "p < 0.001" if p < 0.001 else f"p = {rounded + 0.001 * crossed:.3f}"
