"""Confidence intervals, corrections and power compared with published examples and simulation."""

from itertools import pairwise

import numpy as np
import pytest

from hiri_search.stats.significance import (
    LEVEL,
    Comparison,
    Scale,
    Scores,
    against_best,
    clear_best,
    compare_pairs,
    mean_interval,
    p_text,
    seeds_needed,
)
from hiri_search.stats.verdicts import in_words

# Student (1908), The probable error of a mean, Biometrika 6: hours of sleep gained by ten patients with two drugs.
FIRST_DRUG = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
SECOND_DRUG = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]


def scores(**rows: list[float]) -> Scores:
    return {name: dict(enumerate(values)) for name, values in rows.items()}


# ---- means and paired differences


def test_students_sleep_data():
    """R's documentation, ?t.test and ?sleep, paired: t = -4.0621, df = 9, p = 0.002833, -2.4598858 to -0.7001142."""
    (comparison,) = compare_pairs([("first", "second")], scores(first=FIRST_DRUG, second=SECOND_DRUG))
    assert comparison.interval is not None
    assert comparison.gain == pytest.approx(-1.58)
    assert (comparison.interval.low, comparison.interval.high) == pytest.approx((-2.4598858, -0.7001142), abs=1e-7)
    assert comparison.p == pytest.approx(0.002833, abs=5e-7)
    assert comparison.p_holm == comparison.p, "a single comparison needs no correction"
    assert in_words(comparison) == "worse (10 seeds, p = 0.003)"


def test_the_interval_of_a_mean_is_students_interval():
    """The second drug alone: R, t.test(sleep$extra[11:20]), 2.33 with 0.8976775 to 3.7623225."""
    mean = mean_interval(SECOND_DRUG)
    assert mean is not None
    assert (mean.value, mean.low, mean.high) == pytest.approx((2.33, 0.8976775, 3.7623225), abs=1e-7)


@pytest.mark.parametrize("values", [[], [40.0], [40.0, 40.0, 40.0]], ids=["none", "one", "all equal"])
def test_values_without_variance_have_no_interval(values: list[float]):
    assert mean_interval(values) is None


def test_only_shared_seeds_are_compared():
    (comparison,) = compare_pairs([("a", "b")], {"a": {0: 5.0, 1: 6.0, 7: 9.0}, "b": {1: 4.0, 0: 4.5, 2: 0.0}})
    assert sorted(comparison.differences) == [0.5, 2.0]


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ({0: 1.0}, {1: 2.0}, "no seed in common, nothing to compare"),
        ({0: 1.0}, {0: 2.0}, "one seed in common cannot be tested: write seeds: 3 or more"),
        ({0: 40.1, 1: 41.2}, {0: 39.1, 1: 40.2}, "the same difference for all 2 seeds"),
    ],
)
def test_words_give_the_reason_where_no_test_is_possible(first: dict[int, float], second: dict[int, float], words: str):
    (comparison,) = compare_pairs([("a", "b")], {"a": first, "b": second})
    assert in_words(comparison).startswith(words)
    assert (comparison.p, comparison.p_holm, comparison.interval, comparison.more_seeds) == (None, None, None, None)
    assert comparison.significant is False


# ---- corrections


def test_holms_correction():
    """Wikipedia's example of the Holm-Bonferroni method: p of .01, .04, .03, .005; the first and last are rejected.

    Adjusted p by its formula: .03, .06, .06, .02. A bisection finds differences with exactly these p.
    """
    rng = np.random.default_rng(0)
    rows = {"base": [0.0] * 8} | {
        f"h{number}": list(_with_p(rng.normal(size=8), p)) for number, p in enumerate([0.01, 0.04, 0.03, 0.005])
    }
    comparisons = compare_pairs([(name, "base") for name in rows if name != "base"], scores(**rows))
    assert [c.p for c in comparisons] == pytest.approx([0.01, 0.04, 0.03, 0.005], rel=1e-4)
    assert [c.p_holm for c in comparisons] == pytest.approx([0.03, 0.06, 0.06, 0.02], rel=1e-4)
    assert [c.significant for c in comparisons] == [True, False, False, True]


def _with_p(noise: np.ndarray, p: float) -> np.ndarray:
    low, high = 0.0, 100.0
    for _ in range(100):
        middle = (low + high) / 2
        middle_p = Comparison("a", "b", tuple(noise - noise.mean() + middle)).p
        assert middle_p is not None
        low, high = (middle, high) if middle_p > p else (low, middle)
    return noise - noise.mean() + high


def test_pairs_that_cannot_be_tested_are_not_part_of_the_family():
    comparisons = compare_pairs([("a", "b"), ("a", "c")], {"a": {0: 1.0, 1: 3.0}, "b": {0: 0.0, 1: 0.5}, "c": {0: 1.0}})
    assert [c.family for c in comparisons] == [1, 1]


def test_the_best_row_is_compared_with_a_correction_for_all_pairs():
    rows = scores(low=[1, 2, 3], high=[10.0, 11.1, 12], middle=[5, 6.2, 7])
    comparisons = against_best(rows)
    assert [(c.row, c.against, c.family) for c in comparisons] == [("low", "high", 3), ("middle", "high", 3)]
    assert all(c.gain is not None and c.gain < 0 for c in comparisons)


def test_a_best_row_is_clear_only_where_it_is_better_than_every_other_row():
    apart = scores(a=[1.0, 2.1, 2.9, 4.0], b=[11.0, 12.0, 13.0, 14.1])
    close = {**apart, "c": dict(enumerate([11.1, 11.9, 13.2, 14.0]))}
    assert clear_best(apart) == "b"
    assert clear_best(close) is None
    assert clear_best(scores(a=[1.0, 2.1])) is None
    assert clear_best({}) is None


def test_a_row_with_the_best_mean_that_is_worse_on_the_shared_seeds_is_not_clear():
    fewer = scores(good=[11.0, 12.0, 13.0, 14.1], lucky=[9.0, 10.1, 10.9, 12.0])
    fewer["lucky"] |= {4: 99.0, 5: 99.0}
    assert against_best(fewer)[0].against == "lucky"
    assert against_best(fewer)[0].significant
    assert clear_best(fewer) is None


# ---- power


@pytest.mark.parametrize(
    ("spread", "seeds"),
    [
        # Cohen (1988) and R: pwr.t.test(d=.5, power=.8, type="paired") gives n = 33.37
        (1 / 0.5, 34),
        (1 / 0.8, 15),  # d=.8: n = 14.30
        (1 / 0.2, 199),  # d=.2: n = 198.15
    ],
)
def test_seeds_for_a_power_of_eighty_percent(spread: float, seeds: int):
    assert seeds_needed(spread) == seeds


def test_power_of_the_matched_pairs_of_gpowers_manual():
    """G*Power 3.1 manual, matched pairs: d = 0.421637 and 50 pairs, two tails, have a power of 0.832114."""
    from statsmodels.stats.power import TTestPower

    assert TTestPower().power(0.421637, 50, 0.05) == pytest.approx(0.832114, abs=1e-6)


def test_the_needed_seeds_give_the_promised_power():
    spread = 1.8  # in worthwhile gains
    seeds = seeds_needed(spread)
    assert seeds is not None
    rng = np.random.default_rng(0)
    differences = rng.normal(1.0, spread, size=(1000, seeds))
    significant = [(p := Comparison("a", "b", tuple(row)).p) is not None and p <= 1 - LEVEL for row in differences]
    assert 0.76 <= np.mean(significant) <= 0.84


def test_words_give_the_number_of_additional_seeds():
    (comparison,) = compare_pairs([("a", "b")], scores(a=[40.0, 41.0, 42.5], b=[40.5, 40.0, 42.0]))
    needed = seeds_needed(float(np.std([-0.5, 1.0, 0.5], ddof=1)) / 0.5)
    assert needed is not None
    words = f"no difference shown at this budget (3 seeds, p = 0.529); {needed - 3} more seeds would show 0.5 points"
    assert in_words(comparison) == words


def test_a_score_of_which_less_is_better_is_better_where_it_is_less():
    rows, scale = scores(a=[2.0, 2.1, 2.2], b=[1.0, 1.2, 1.1]), Scale(up=False, worthwhile=None, unit="nats")
    (comparison,) = compare_pairs([("b", "a")], rows, scale)
    assert in_words(comparison).startswith("better")
    assert [c.against for c in against_best(rows, scale)] == ["b"]
    assert (clear_best(rows, scale), clear_best(rows)) == ("b", "a")
    (close,) = compare_pairs([("c", "a")], {**rows, **scores(c=[2.1, 2.0, 2.3])}, scale)
    assert in_words(close).endswith("(3 seeds, p = 0.667)"), "which gain is worthwhile is not known"


def test_words_say_where_there_are_enough_seeds():
    (comparison,) = compare_pairs([("a", "b")], scores(a=[0.01, -0.02, 0.01, 0.0, -0.01], b=[0.0] * 5))
    assert "this many seeds would show 0.5 points" in in_words(comparison)


def test_a_huge_number_of_needed_seeds_is_none():
    assert seeds_needed(1000.0) is None


@pytest.mark.parametrize(
    ("p", "text"), [(0.0001, "p < 0.001"), (0.0833, "p = 0.083"), (0.05, "p = 0.050"), (0.05001, "p = 0.051")]
)
def test_p_is_never_rounded_to_the_significance_level(p: float, text: str):
    assert p_text(p) == text


# ---- an ablation ladder with known effects

EFFECTS = np.array([0.0, 1.5, 0.0, -1.0, 0.5])  # points, by step
SIMULATIONS = 1000
SEEDS = 4


@pytest.fixture(scope="module")
def ladders() -> list[list[Comparison]]:
    """Comparisons of simulated ladders: each seed has its own random effect, and each row its own variance."""
    rng = np.random.default_rng(0)
    names = [f"row {number}" for number in range(len(EFFECTS) + 1)]
    true_means = np.concatenate([[80.0], 80 + np.cumsum(EFFECTS)])
    spreads = np.linspace(0.3, 1.2, len(names))
    simulated = []
    for _ in range(SIMULATIONS):
        seed_effects = rng.normal(0, 2, size=SEEDS)
        drawn = true_means[:, None] + seed_effects + spreads[:, None] * rng.normal(size=(len(names), SEEDS))
        rows = {name: dict(enumerate(row)) for name, row in zip(names, drawn.tolist(), strict=True)}
        simulated.append(compare_pairs([(after, before) for before, after in pairwise(names)], rows))
    return simulated


def test_intervals_cover_the_true_effects_at_their_confidence_level(ladders: list[list[Comparison]]):
    covered = np.array(
        [[_covers(step.interval, effect) for step, effect in zip(ladder, EFFECTS, strict=True)] for ladder in ladders]
    )
    assert np.abs(covered.mean(axis=0) - LEVEL).max() < 0.021, "three standard errors over 1,000 simulations"
    assert covered.mean() == pytest.approx(LEVEL, abs=0.01)


def test_simultaneous_intervals_cover_all_steps_at_once(ladders: list[list[Comparison]]):
    covered = [
        all(_covers(step.simultaneous_interval, effect) for step, effect in zip(ladder, EFFECTS, strict=True))
        for ladder in ladders
    ]
    assert LEVEL - 0.021 <= np.mean(covered) <= 1


def test_few_ladders_have_a_significant_step_without_an_effect(ladders: list[list[Comparison]]):
    wrong = [any(s.significant for s, effect in zip(ladder, EFFECTS, strict=True) if effect == 0) for ladder in ladders]
    assert np.mean(wrong) <= 1 - LEVEL + 0.021


def _covers(interval, effect: float) -> bool:
    return interval.low <= effect <= interval.high
