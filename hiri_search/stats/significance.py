"""Confidence intervals, paired t-tests with Holm's correction, and power."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import sqrt

import numpy as np
import numpy.typing as npt
from scipy import special  # Student's t: 100 times as fast as scipy.stats, which checks for NaN
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

LEVEL = 0.95  # of confidence; 1 - LEVEL is the significance level
POWER = 0.80  # probability of a significant result if the true difference is worthwhile
MAX_ESTIMATED_SEEDS = 10_000
_DECIMALS = 9  # of a difference; later digits are rounding errors

Array = npt.NDArray[np.float64]
Scores = Mapping[str, Mapping[int, float]]  # by row and seed


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


def _mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    return float(np.mean(values)), float(np.std(values, ddof=1)) / sqrt(len(values))


def _vary(values: Sequence[float]) -> bool:
    return len({round(value, _DECIMALS) for value in values}) > 1


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
        return mean_interval(self.differences)

    @property
    def simultaneous_interval(self) -> Estimate | None:
        """The gain with its Bonferroni interval: all intervals of the family hold at once at LEVEL."""
        return mean_interval(self.differences, level=1 - (1 - LEVEL) / self.family)

    @property
    def p(self) -> float | None:
        """Two-sided p of the paired t-test, not corrected."""
        if not _vary(self.differences):
            return None
        mean, error = _mean_and_error(self.differences)
        return 2 * float(special.stdtr(self.seeds - 1, -abs(mean / error)))

    @property
    def significant(self) -> bool:
        """True if the difference is significant after Holm's correction."""
        return self.p_holm is not None and self.p_holm <= 1 - LEVEL

    @property
    def more_seeds(self) -> int | None:
        """Seeds to add so that a worthwhile gain is significant with probability POWER, at the measured variance.

        0 if there are enough; None if the variance cannot be estimated, if it is not known which gain is worthwhile, or
        for more than MAX_ESTIMATED_SEEDS.
        """
        if self.scale.worthwhile is None or not _vary(self.differences):
            return None
        needed = seeds_needed(float(np.std(self.differences, ddof=1)) / self.scale.worthwhile, self.family)
        return None if needed is None else max(0, needed - self.seeds)


def compare_pairs(pairs: Sequence[tuple[str, str]], scores: Scores, scale: Scale = POINTS) -> list[Comparison]:
    """Compare the two rows of each pair over their shared seeds, with Holm's correction over all pairs.

    A pair with fewer than two shared seeds is not tested and not counted. Tests of pairs with a common row are
    dependent; Holm's correction is valid for dependent tests too.
    """
    comparisons = [Comparison(row, against, _differences(scores, row, against), scale=scale) for row, against in pairs]
    corrected, family = _holm(np.array([comparison.p for comparison in comparisons], float))
    return [
        replace(comparison, family=family, p_holm=None if np.isnan(p) else p)
        for comparison, p in zip(comparisons, corrected.tolist(), strict=True)
    ]


def _holm(p: Array) -> tuple[Array, int]:
    """Each p with Holm's correction, and the number of comparisons tested together; NaN for those not tested."""
    corrected, tested = np.full_like(p, np.nan), ~np.isnan(p)
    if tested.any():
        corrected[tested] = multipletests(p[tested], method="holm")[1]
    return corrected, max(1, int(tested.sum()))


def _differences(scores: Scores, row: str, against: str) -> tuple[float, ...]:
    first, second = scores.get(row, {}), scores.get(against, {})
    return tuple(round(first[seed] - second[seed], _DECIMALS) for seed in first if seed in second)


def against_best(scores: Scores, scale: Scale = POINTS) -> list[Comparison]:
    """Compare every other row with the row of the best mean, in the order of `scores`.

    The best row is chosen by the same scores, so that any pair could have been the compared one: the correction is for
    all pairs of rows.
    """
    means = {row: np.mean([*seeds.values()]) for row, seeds in scores.items() if seeds}
    if len(means) < 2:
        return []
    best, rows = (max if scale.up else min)(means, key=lambda row: means[row]), [*means]
    corrected, family = _holm(_p_of_all_pairs(scores, rows))
    of_best = (np.array(np.triu_indices(len(rows), 1)) == rows.index(best)).any(axis=0)  # the pairs with the best row
    return [
        Comparison(row, best, _differences(scores, row, best), family, None if np.isnan(p) else p, scale)
        for row, p in zip((row for row in rows if row != best), corrected[of_best].tolist(), strict=True)
    ]


def _p_of_all_pairs(scores: Scores, rows: Sequence[str]) -> Array:
    """`Comparison.p` of all pairs of rows, NaN instead of None; 1,000 rows with 500,000 pairs take a second."""
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


def clear_best(scores: Scores, scale: Scale = POINTS) -> str | None:
    """The row that is significantly better than every other row; None if there is none."""
    comparisons = against_best(scores, scale)
    return comparisons[0].against if comparisons and all(c.significant for c in comparisons) else None


@cache
def seeds_needed(spread: float, family: int = 1) -> int | None:
    """Seeds for a power of POWER to detect a gain, if differences have the standard deviation `spread`, in such gains.

    The test is the two-sided paired t-test at Bonferroni's level for the family, which is the first and strictest step
    of Holm's correction. None for more than MAX_ESTIMATED_SEEDS.
    """
    power = TTestPower()

    def enough(seeds: int) -> bool:
        return float(power.power(1 / spread, seeds, (1 - LEVEL) / family)) >= POWER

    low, high = 1, 2  # bounds of a bisection: `low` is not enough
    while not enough(high):
        if high > MAX_ESTIMATED_SEEDS:
            return None
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high if high <= MAX_ESTIMATED_SEEDS else None


def in_words(comparison: Comparison) -> str:
    """Describe the result of a comparison, and how many more seeds would show a difference."""
    if comparison.interval is None:
        return _untested(comparison)
    among = f" among {comparison.family} comparisons" if comparison.family > 1 else ""
    tested = f"{comparison.seeds} seeds, {p_text(comparison.p_holm)}{among}"
    if comparison.significant:
        better = (comparison.interval.value > 0) == comparison.scale.up
        return f"{'better' if better else 'worse'} ({tested})"
    return f"no difference shown at this budget ({tested}){_more(comparison)}"


def _untested(comparison: Comparison) -> str:
    match comparison.seeds:
        case 0:
            return "no seed in common, nothing to compare"
        case 1:
            return "one seed in common cannot be tested: write seeds: 3 or more"
        case seeds:
            return f"the same difference for all {seeds} seeds: no variance for a test; write more seeds"


def _more(comparison: Comparison) -> str:
    """Return how many more seeds would show a worthwhile gain; empty where it is not known which gain is."""
    if comparison.scale.worthwhile is None:
        return ""
    gain = f"{comparison.scale.worthwhile:g} {comparison.scale.unit}".rstrip()
    match comparison.more_seeds:
        case None:
            return f"; more than {MAX_ESTIMATED_SEEDS:,} seeds would show {gain}"
        case 0:
            return f"; this many seeds would show {gain}"
        case 1:
            return f"; 1 more seed would show {gain}"
        case more:
            return f"; {more:,} more seeds would show {gain}"


def p_text(p: float | None) -> str:
    """Format p as `p = 0.012` or `p < 0.001`."""
    if p is None:
        return "no p"
    rounded = round(p, 3)
    crossed = rounded <= 1 - LEVEL < p  # a p above the significance level is not rounded down to the level
    return "p < 0.001" if p < 0.001 else f"p = {rounded + 0.001 * crossed:.3f}"
