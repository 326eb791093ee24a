"""Confidence intervals, paired t-tests with Holm's correction, and power."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import sqrt

import numpy as np
import numpy.typing as npt
from scipy import special  # Student's distribution, a hundred times as fast as scipy.stats, which looks for NaNs
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

LEVEL = 0.95
POWER = 0.80  # how often a difference of WORTH would be shown
WORTHWHILE_GAIN = 0.5  # points of top-1 that are worth showing
MAX_ESTIMATED_SEEDS = 10_000  # nobody trains more
_DECIMALS = 9  # of a difference: what lies behind is of floating point's making

PercentPoints = npt.NDArray[np.float64]
Scores = Mapping[str, Mapping[int, float]]  # top-1 by row and seed


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
    few hundred images can be by chance.
    """
    known = [*values]
    if not _vary(known):
        return None
    mean, error = _mean_and_error(known)
    half = error * float(special.stdtrit(len(known) - 1, (1 + level) / 2))
    return Estimate(mean, mean - half, mean + half)


def _mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """The mean, and its standard error."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) / sqrt(len(values))


def _vary(values: Sequence[float]) -> bool:
    return len({round(value, _DECIMALS) for value in values}) > 1


@dataclass(frozen=True)
class Comparison:
    """A row held against another: top-1 of the one less that of the other, seed by seed.

    Paired, because trials that share a seed share their images' order and much of their luck.
    """

    row: str
    against: str
    differences: tuple[float, ...]  # points, one for each seed that both have
    family: int = 1  # comparisons that were made together, this one among them
    corrected: float | None = None  # p by Holm's correction for the family; None: not tested

    @property
    def seeds(self) -> int:
        return len(self.differences)

    @property
    def gain(self) -> float | None:
        """Points; None where no seed is shared."""
        return float(np.mean(self.differences)) if self.differences else None

    @property
    def interval(self) -> Estimate | None:
        """The gain with the interval that covers it at LEVEL, this comparison taken alone."""
        return mean_interval(self.differences)

    @property
    def together(self) -> Estimate | None:
        """The gain with Bonferroni's interval: all of the family are covered at once at LEVEL."""
        return mean_interval(self.differences, level=1 - (1 - LEVEL) / self.family)

    @property
    def p(self) -> float | None:
        """Two-sided, of the paired t-test, not corrected."""
        if not _vary(self.differences):
            return None
        mean, error = _mean_and_error(self.differences)
        return 2 * float(special.stdtr(self.seeds - 1, -abs(mean / error)))

    @property
    def shown(self) -> bool:
        """Whether a difference is shown, the number of comparisons taken into account."""
        return self.corrected is not None and self.corrected <= 1 - LEVEL

    @property
    def more_seeds(self) -> int | None:
        """Seeds to add for WORTH points to be shown in POWER of such studies, if the spread is as measured.

        0: there are enough. None: no spread to judge by, or more than MOST_SEEDS.
        """
        if not _vary(self.differences):
            return None
        needed = seeds_needed(float(np.std(self.differences, ddof=1)), self.family)
        return None if needed is None else max(0, needed - self.seeds)


def compare_pairs(pairs: Sequence[tuple[str, str]], scores: Scores) -> list[Comparison]:
    """Each pair's first row against its second, over the seeds that both have; Holm's correction over all of them.

    A pair with fewer than two shared seeds is not tested and does not count. Rows of several pairs make the tests
    depend on each other: Holm's correction holds all the same.
    """
    found = [Comparison(row, against, _differences(scores, row, against)) for row, against in pairs]
    raw = [one.p for one in found]
    tested = [p for p in raw if p is not None]
    corrected = iter(multipletests(tested, method="holm")[1] if tested else ())
    return [
        replace(one, family=max(1, len(tested)), corrected=None if p is None else float(next(corrected)))
        for one, p in zip(found, raw, strict=True)
    ]


def _differences(scores: Scores, row: str, against: str) -> tuple[float, ...]:
    ours, theirs = scores.get(row, {}), scores.get(against, {})
    return tuple(round(ours[seed] - theirs[seed], _DECIMALS) for seed in ours if seed in theirs)


def against_best(scores: Scores) -> list[Comparison]:
    """Every other row against the one with the highest mean, in the order of `scores`.

    Which row is best is known from the same numbers, so that any pair might have been looked at: the correction is for
    all pairs of rows.
    """
    means = {row: np.mean([*seeds.values()]) for row, seeds in scores.items() if seeds}
    if len(means) < 2:
        return []
    best, rows = max(means, key=lambda row: means[row]), [*means]
    raw = _p_of_all_pairs(scores, rows)
    tested = ~np.isnan(raw)
    corrected = np.full_like(raw, np.nan)
    if tested.any():
        corrected[tested] = multipletests(raw[tested], method="holm")[1]
    family = max(1, int(tested.sum()))
    found = []
    for at, row in enumerate(rows):
        if row != best:
            first, second = sorted((at, rows.index(best)))
            p = corrected[_place(first, second, len(rows))]
            differences = _differences(scores, row, best)
            found.append(Comparison(row, best, differences, family, None if np.isnan(p) else float(p)))
    return found


def _place(first: int, second: int, count: int) -> int:
    """Of a pair of so many rows, among all pairs in their order."""
    return first * count - first * (first + 1) // 2 + second - first - 1


def _p_of_all_pairs(scores: Scores, rows: Sequence[str]) -> PercentPoints:
    """As `Comparison.p`, NaN where that is None: of a thousand rows, with half a million pairs, in a second."""
    seeds = sorted({seed for row in rows for seed in scores[row]})
    table = np.array([[scores[row].get(seed, np.nan) for seed in seeds] for row in rows])
    return np.concatenate([_p_of_pairs(np.round(one - table[at:], _DECIMALS)) for at, one in enumerate(table[:-1], 1)])


def _p_of_pairs(differences: PercentPoints) -> PercentPoints:
    """Of some pairs' differences, (pairs, seeds), NaN where a seed is not shared."""
    shared = ~np.isnan(differences)
    known, count = np.where(shared, differences, 0.0), shared.sum(axis=1)
    mean = known.sum(axis=1) / np.maximum(count, 1)
    squares = np.where(shared, (differences - mean[:, None]) ** 2, 0.0).sum(axis=1)
    low, high = (np.where(shared, differences, end).T for end in (np.inf, -np.inf))
    vary = (count > 1) & (high.max(axis=0) > low.min(axis=0))
    p = np.full(len(differences), np.nan)
    error = np.sqrt(squares[vary] / (count[vary] - 1) / count[vary])
    p[vary] = 2 * special.stdtr(count[vary] - 1, -np.abs(mean[vary] / error))
    return p


def clear_best(scores: Scores) -> str | None:
    """The row that is shown to be better than every other one; None where there is no such row."""
    found = against_best(scores)
    return found[0].against if found and all(one.shown for one in found) else None


@cache
def seeds_needed(spread: float, family: int = 1) -> int | None:
    """Seeds for WORTH points to be shown in POWER of studies whose differences have this standard deviation.

    By a two-sided paired t-test at Bonferroni's level for the family, which is Holm's first and strictest step. None
    for more than MOST_SEEDS.
    """
    power = TTestPower()

    def reached(seeds: int) -> bool:
        return float(power.power(WORTHWHILE_GAIN / spread, seeds, (1 - LEVEL) / family)) >= POWER

    few, many = 1, 2
    while not reached(many):
        if many > MAX_ESTIMATED_SEEDS:
            return None
        few, many = many, 2 * many
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (few, middle) if reached(middle) else (middle, many)
    return many if many <= MAX_ESTIMATED_SEEDS else None


def in_words(comparison: Comparison) -> str:
    """What a comparison shows, and what more seeds would."""
    if comparison.interval is None:
        return _untested(comparison)
    tested = f"{comparison.seeds} seeds, {p_text(comparison.corrected)}{_among(comparison)}"
    if comparison.shown:
        return f"{'better' if comparison.interval.value > 0 else 'worse'} ({tested})"
    return f"no difference shown at this budget ({tested}); {_more(comparison)}"


def _untested(comparison: Comparison) -> str:
    match comparison.seeds:
        case 0:
            return "no seed in common, nothing to compare"
        case 1:
            return "one seed in common shows nothing: write seeds: 3 or more"
        case seeds:
            return f"the same difference for all {seeds} seeds: no spread to judge by; write more seeds"


def _among(comparison: Comparison) -> str:
    return f" among {comparison.family} comparisons" if comparison.family > 1 else ""


def _more(comparison: Comparison) -> str:
    match comparison.more_seeds:
        case None:
            return f"more than {MAX_ESTIMATED_SEEDS:,} seeds would show {WORTHWHILE_GAIN} points"
        case 0:
            return f"so many would have shown {WORTHWHILE_GAIN} points"
        case 1:
            return f"1 more seed would show {WORTHWHILE_GAIN} points"
        case more:
            return f"{more:,} more seeds would show {WORTHWHILE_GAIN} points"


def p_text(p: float | None) -> str:
    """`p = 0.012`, or `p < 0.001`."""
    if p is None:
        return "no p"
    rounded = round(p, 3)
    crossed = rounded <= 1 - LEVEL < p  # a p above the bound is not printed as the bound
    return "p < 0.001" if p < 0.001 else f"p = {rounded + 0.001 * crossed:.3f}"
