"""Numbers with intervals, and rows held against each other over the seeds that both have (docs/statistics.md)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations

import numpy as np
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

LEVEL = 0.95
POWER = 0.80  # how often a difference of WORTH would be shown
WORTH = 0.5  # points of top-1 that are worth showing
MOST_SEEDS = 10_000  # nobody trains more
DIGITS = 9  # of a difference: what lies behind is of floating point's making

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
    few hundred pictures can be by chance.
    """
    known = np.round(np.array([*values], float), DIGITS)
    if len(known) < 2 or np.ptp(known) == 0:
        return None
    low, high = stats.ttest_1samp(known, 0).confidence_interval(level)
    return Estimate(float(known.mean()), float(low), float(high))


@dataclass(frozen=True)
class Comparison:
    """A row held against another: top-1 of the one less that of the other, seed by seed.

    Paired, because trials that share a seed share their pictures' order and much of their luck.
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
        return None if self.interval is None else float(stats.ttest_1samp(self.differences, 0).pvalue)

    @property
    def shown(self) -> bool:
        """Whether a difference is shown, the number of comparisons taken into account."""
        return self.corrected is not None and self.corrected <= 1 - LEVEL

    @property
    def more_seeds(self) -> int | None:
        """Seeds to add for WORTH points to be shown in POWER of such studies, if the spread is as measured.

        0: there are enough. None: no spread to judge by, or more than MOST_SEEDS.
        """
        if self.interval is None:
            return None
        needed = seeds_needed(float(np.std(self.differences, ddof=1)), self.family)
        return None if needed is None else max(0, needed - self.seeds)


def compare(pairs: Sequence[tuple[str, str]], scores: Scores) -> list[Comparison]:
    """Each pair's first row against its second, over the seeds that both have; Holm's correction over all of them.

    A pair with fewer than two shared seeds is not tested and does not count. Rows of several pairs make the tests
    depend on each other: Holm's correction holds all the same.
    """
    found = [Comparison(row, against, _differences(scores, row, against)) for row, against in pairs]
    raw = [p for comparison in found if (p := comparison.p) is not None]
    corrected = iter(multipletests(raw, method="holm")[1] if raw else ())
    return [
        Comparison(
            one.row,
            one.against,
            one.differences,
            family=max(1, len(raw)),
            corrected=None if one.p is None else float(next(corrected)),
        )
        for one in found
    ]


def _differences(scores: Scores, row: str, against: str) -> tuple[float, ...]:
    ours, theirs = scores.get(row, {}), scores.get(against, {})
    return tuple(round(ours[seed] - theirs[seed], DIGITS) for seed in ours if seed in theirs)


def against_best(scores: Scores) -> list[Comparison]:
    """Every other row against the one with the highest mean, in the order of `scores`.

    Which row is best is known from the same numbers, so that any pair might have been looked at: the correction is for
    all pairs of rows.
    """
    means = {row: np.mean([*seeds.values()]) for row, seeds in scores.items() if seeds}
    if len(means) < 2:
        return []
    best = max(means, key=lambda row: means[row])
    pairs = [(row, other) if row != best else (other, row) for row, other in combinations(means, 2)]
    return [one for one in compare(pairs, scores) if one.against == best]


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
        return float(power.power(WORTH / spread, seeds, (1 - LEVEL) / family)) >= POWER

    few, many = 1, 2
    while not reached(many):
        if many > MOST_SEEDS:
            return None
        few, many = many, 2 * many
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (few, middle) if reached(middle) else (middle, many)
    return many if many <= MOST_SEEDS else None


def in_words(comparison: Comparison) -> str:
    """What a comparison shows, and what more seeds would."""
    if comparison.interval is None:
        return _untested(comparison)
    tested = f"{comparison.seeds} seeds, p = {in_digits(comparison.corrected)}{_among(comparison)}"
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
            return f"more than {MOST_SEEDS:,} seeds would show {WORTH} points"
        case 0:
            return f"so many would have shown {WORTH} points"
        case 1:
            return f"1 more seed would show {WORTH} points"
        case more:
            return f"{more:,} more seeds would show {WORTH} points"


def in_digits(p: float | None) -> str:
    """`0.012`, `below 0.001`, or `-`."""
    if p is None:
        return "-"
    rounded = round(p, 3)
    crossed = rounded <= 1 - LEVEL < p  # a p above the bound is not printed as the bound
    return "below 0.001" if p < 0.001 else f"{rounded + 0.001 * crossed:.3f}"
