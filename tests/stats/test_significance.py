"""Intervals, corrections and power against published examples and by simulation."""

import gc
from itertools import pairwise

import numpy as np
import pytest

from hiri_search.stats.significance import (
    LEVEL,
    WORTHWHILE_GAIN,
    Comparison,
    Scores,
    against_best,
    clear_best,
    compare_pairs,
    in_words,
    mean_interval,
    p_text,
    seeds_needed,
)

# Student (1908), The probable error of a mean, Biometrika 6: hours of sleep gained by ten patients with two drugs.
FIRST_DRUG = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
SECOND_DRUG = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]


def scores(**rows: list[float]) -> Scores:
    return {name: dict(enumerate(values)) for name, values in rows.items()}


# ---- means and pairs


def test_students_sleep():
    """R's documentation, ?t.test and ?sleep, paired: t = -4.0621, df = 9, p = 0.002833, -2.4598858 to -0.7001142."""
    (found,) = compare_pairs([("first", "second")], scores(first=FIRST_DRUG, second=SECOND_DRUG))
    assert found.interval is not None
    assert found.gain == pytest.approx(-1.58)
    assert (found.interval.low, found.interval.high) == pytest.approx((-2.4598858, -0.7001142), abs=1e-7)
    assert found.p == pytest.approx(0.002833, abs=5e-7)
    assert found.corrected == found.p, "one comparison needs no correction"
    assert in_words(found) == "worse (10 seeds, p = 0.003)"


def test_the_interval_of_a_mean_is_students():
    """The second drug alone: R, t.test(sleep$extra[11:20]), 2.33 with 0.8976775 to 3.7623225."""
    found = mean_interval(SECOND_DRUG)
    assert found is not None
    assert (found.value, found.low, found.high) == pytest.approx((2.33, 0.8976775, 3.7623225), abs=1e-7)


@pytest.mark.parametrize("values", [[], [40.0], [40.0, 40.0, 40.0]], ids=["none", "one", "all the same"])
def test_without_spread_there_is_no_interval(values: list[float]):
    assert mean_interval(values) is None


def test_only_shared_seeds_are_compared():
    (found,) = compare_pairs([("a", "b")], {"a": {0: 5.0, 1: 6.0, 7: 9.0}, "b": {1: 4.0, 0: 4.5, 2: 0.0}})
    assert sorted(found.differences) == [0.5, 2.0]


@pytest.mark.parametrize(
    ("ours", "theirs", "words"),
    [
        ({0: 1.0}, {1: 2.0}, "no seed in common, nothing to compare"),
        ({0: 1.0}, {0: 2.0}, "one seed in common shows nothing: write seeds: 3 or more"),
        ({0: 40.1, 1: 41.2}, {0: 39.1, 1: 40.2}, "the same difference for all 2 seeds"),
    ],
)
def test_where_nothing_can_be_tested_words_say_why(ours: dict[int, float], theirs: dict[int, float], words: str):
    (found,) = compare_pairs([("a", "b")], {"a": ours, "b": theirs})
    assert in_words(found).startswith(words)
    assert (found.p, found.corrected, found.interval, found.more_seeds, found.shown) == (None, None, None, None, False)


# ---- corrections


def test_holms_correction():
    """The example of Wikipedia, Holm-Bonferroni method: p of .01, .04, .03, .005; the first and the last are rejected.

    Adjusted, by its formula: .03, .06, .06, .02. Differences with exactly these p are found by bisection of a shift.
    """
    rng = np.random.default_rng(0)
    rows = {"base": [0.0] * 8} | {
        f"h{number}": list(_with_p(rng.normal(size=8), p)) for number, p in enumerate([0.01, 0.04, 0.03, 0.005])
    }
    found = compare_pairs([(name, "base") for name in rows if name != "base"], scores(**rows))
    assert [one.p for one in found] == pytest.approx([0.01, 0.04, 0.03, 0.005], rel=1e-4)
    assert [one.corrected for one in found] == pytest.approx([0.03, 0.06, 0.06, 0.02], rel=1e-4)
    assert [one.shown for one in found] == [True, False, False, True]


def _with_p(noise: np.ndarray, p: float) -> np.ndarray:
    low, high = 0.0, 100.0
    for _ in range(100):
        middle = (low + high) / 2
        reached = Comparison("a", "b", tuple(noise - noise.mean() + middle)).p
        assert reached is not None
        low, high = (middle, high) if reached > p else (low, middle)
    return noise - noise.mean() + high


def test_pairs_that_cannot_be_tested_do_not_count():
    found = compare_pairs([("a", "b"), ("a", "c")], {"a": {0: 1.0, 1: 3.0}, "b": {0: 0.0, 1: 0.5}, "c": {0: 1.0}})
    assert [one.family for one in found] == [1, 1]


def test_the_best_is_held_against_the_others_with_all_pairs_counted():
    rows = scores(low=[1, 2, 3], high=[10.0, 11.1, 12], middle=[5, 6.2, 7])
    found = against_best(rows)
    assert [(one.row, one.against, one.family) for one in found] == [("low", "high", 3), ("middle", "high", 3)]
    assert all(one.gain is not None and one.gain < 0 for one in found)


def test_a_best_row_is_clear_only_where_it_beats_every_other():
    apart = scores(a=[1.0, 2.1, 2.9, 4.0], b=[11.0, 12.0, 13.0, 14.1])
    near = {**apart, "c": dict(enumerate([11.1, 11.9, 13.2, 14.0]))}
    assert clear_best(apart) == "b"
    assert clear_best(near) is None
    assert clear_best(scores(a=[1.0, 2.1])) is None
    assert clear_best({}) is None


# ---- power


@pytest.mark.parametrize(
    ("spread", "seeds"),
    [
        (
            WORTHWHILE_GAIN / 0.5,
            34,
        ),  # Cohen (1988), d = .5, and R's pwr.t.test(d=.5, power=.8, type="paired"): n = 33.37
        (WORTHWHILE_GAIN / 0.8, 15),  # the same with .8: n = 14.30
        (WORTHWHILE_GAIN / 0.2, 199),  # the same with .2: n = 198.15
    ],
)
def test_seeds_for_eighty_percent(spread: float, seeds: int):
    assert seeds_needed(spread) == seeds


def test_power_of_the_matched_pairs_of_gpowers_manual():
    """G*Power 3.1 manual, matched pairs: d = 0.421637 and 50 pairs, two tails, have a power of 0.832114."""
    from statsmodels.stats.power import TTestPower

    assert TTestPower().power(0.421637, 50, 0.05) == pytest.approx(0.832114, abs=1e-6)


def test_so_many_seeds_show_it_as_often_as_they_say():
    spread = 0.9
    seeds = seeds_needed(spread)
    assert seeds is not None
    rng = np.random.default_rng(0)
    ours = rng.normal(WORTHWHILE_GAIN, spread, size=(1000, seeds))
    shown = [(p := Comparison("a", "b", tuple(row)).p) is not None and p <= 1 - LEVEL for row in ours]
    assert 0.76 <= np.mean(shown) <= 0.84


def test_words_say_how_many_more_seeds():
    (found,) = compare_pairs([("a", "b")], scores(a=[40.0, 41.0, 42.5], b=[40.5, 40.0, 42.0]))
    needed = seeds_needed(float(np.std([-0.5, 1.0, 0.5], ddof=1)))
    assert needed is not None
    words = f"no difference shown at this budget (3 seeds, p = 0.529); {needed - 3} more seeds would show 0.5 points"
    assert in_words(found) == words


def test_where_there_are_enough_seeds_words_say_so():
    (found,) = compare_pairs([("a", "b")], scores(a=[0.01, -0.02, 0.01, 0.0, -0.01], b=[0.0] * 5))
    assert "so many would have shown 0.5 points" in in_words(found)


def test_more_than_anybody_trains_is_said():
    assert seeds_needed(1000.0) is None


@pytest.mark.parametrize(
    ("p", "text"), [(0.0001, "p < 0.001"), (0.0833, "p = 0.083"), (0.05, "p = 0.050"), (0.05001, "p = 0.051")]
)
def test_p_is_never_rounded_onto_the_bound(p: float, text: str):
    assert p_text(p) == text


# ---- a ladder whose effects are known

EFFECTS = np.array([0.0, 1.5, 0.0, -1.0, 0.5])  # points, of each step
SIMULATIONS = 1000
SEEDS = 4


@pytest.fixture(scope="module")
def ladders() -> list[list[Comparison]]:
    """Steps of simulated ladders: seeds have luck of their own, and rows that of another size each."""
    rng = np.random.default_rng(0)
    names = [f"row {number}" for number in range(len(EFFECTS) + 1)]
    truth = np.concatenate([[80.0], 80 + np.cumsum(EFFECTS)])
    spreads = np.linspace(0.3, 1.2, len(names))
    found = []
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr(gc, "collect", int)  # statsmodels does it with each correction, which takes a minute here
    for _ in range(SIMULATIONS):
        luck = rng.normal(0, 2, size=SEEDS)
        drawn = truth[:, None] + luck + spreads[:, None] * rng.normal(size=(len(names), SEEDS))
        rows = {name: dict(enumerate(row)) for name, row in zip(names, drawn.tolist(), strict=True)}
        found.append(compare_pairs([(after, before) for before, after in pairwise(names)], rows))
    monkeypatch.undo()
    return found


def test_intervals_of_a_ladders_steps_cover_what_is_true_as_often_as_they_say(ladders: list[list[Comparison]]):
    covered = np.array(
        [[_covers(one.interval, true) for one, true in zip(ladder, EFFECTS, strict=True)] for ladder in ladders]
    )
    assert np.abs(covered.mean(axis=0) - LEVEL).max() < 0.021, "three standard errors over 1,000 simulations"
    assert covered.mean() == pytest.approx(LEVEL, abs=0.01)


def test_intervals_together_cover_all_steps_at_once(ladders: list[list[Comparison]]):
    covered = [
        all(_covers(one.together, true) for one, true in zip(ladder, EFFECTS, strict=True)) for ladder in ladders
    ]
    assert LEVEL - 0.021 <= np.mean(covered) <= 1


def test_hardly_a_ladder_shows_a_step_that_is_none(ladders: list[list[Comparison]]):
    wrong = [any(one.shown for one, true in zip(ladder, EFFECTS, strict=True) if true == 0) for ladder in ladders]
    assert np.mean(wrong) <= 1 - LEVEL + 0.021


def _covers(interval, true: float) -> bool:
    return interval.low <= true <= interval.high
