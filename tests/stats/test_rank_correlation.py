"""Kendall's tau against published examples, by counting, and by simulation."""

from itertools import permutations

import numpy as np
import pytest

from hiri_search.stats.rank_correlation import MAX_EXACT_ITEMS, Tau, kendall_tau
from hiri_search.stats.significance import LEVEL


def found(one, other) -> Tau:
    order = kendall_tau(one, other)
    assert order is not None
    return order


def test_tau_of_a_published_example():
    """Hollander and Wolfe (1973), p. 185 f., tuna: R's ?cor.test has tau 0.4444444 and a one-sided p of 0.05972."""
    lightness = [44.4, 45.9, 41.9, 53.3, 44.7, 44.1, 50.7, 45.2, 60.1]
    quality = [2.6, 3.1, 2.5, 5.0, 3.6, 4.0, 5.2, 2.8, 3.8]
    order = found(lightness, quality)
    assert order.value == pytest.approx(0.4444444, abs=1e-7)
    assert order.p == pytest.approx(2 * 0.05972, abs=1e-5)
    assert order.low < 0 < order.value < order.high


@pytest.mark.parametrize(
    ("things", "least"),
    [(4, 0.083), (5, 0.017), (6, 0.0028), (7, 0.0004)],
    # Kendall (1970), Rank correlation methods, appendix table 1: chances of the highest S, here on both sides
)
def test_the_least_p_of_few_things(things: int, least: float):
    assert found(range(things), range(things)).p == pytest.approx(least, abs=6e-4)


def test_the_same_order_of_four_networks_shows_nothing():
    """One order of 24 is theirs, and another one the reverse: chance comes to it in 8 % of all cases."""
    order = found([1, 2, 3, 4], [10, 20, 30, 40])
    assert order.value == pytest.approx(1)
    assert order.high == 1
    assert order.low < 0


def test_the_reverse_is_the_same_with_another_sign():
    up, down = found([1, 2, 3, 5, 4], [1, 2, 3, 4, 5]), found([-1, -2, -3, -5, -4], [1, 2, 3, 4, 5])
    assert (down.value, down.low, down.high, down.p) == pytest.approx((-up.value, -up.high, -up.low, up.p))


ONE_TIED = [([1, 2, 3, 4, 5], [1, 1, 2, 2, 2]), ([3, 1, 2, 2, 3, 3], [1, 2, 3, 4, 5, 6])]
BOTH_TIED = [([1, 1, 2, 3, 4], [1, 2, 2, 3, 3]), ([1, 1, 2, 3, 4, 4], [1, 2, 2, 3, 3, 3])]


@pytest.mark.parametrize(("one", "other"), ONE_TIED + BOTH_TIED)
def test_with_ties_p_is_that_of_all_orders(one: list[int], other: list[int]):
    every = [abs(_total(one, order)) for order in permutations(other)]
    assert found(one, other).p == pytest.approx(np.mean(np.array(every) >= abs(_total(one, other))))


def test_many_things_with_ties_in_both_have_an_interval_too():
    rng = np.random.default_rng(0)
    one = rng.integers(6, size=12)
    order = found(one, one + rng.integers(2, size=12))
    assert 0 < order.low < order.value <= order.high <= 1
    assert order.p < 0.01


def _total(one, other) -> float:
    pairs = [(i, j) for i in range(len(one)) for j in range(i)]
    return sum(np.sign(one[i] - one[j]) * np.sign(other[i] - other[j]) for i, j in pairs)


@pytest.mark.parametrize("scores", [([1, 2], [1, 2]), ([1, 1, 1], [1, 2, 3]), ([1, 2, 3], [0, 0, 0])])
def test_where_it_is_not_defined_there_is_none(scores):
    assert kendall_tau(*scores) is None


@pytest.mark.parametrize("things", [12, MAX_EXACT_ITEMS + 1])
def test_the_same_scores_give_the_same_interval(things: int):
    one, other = np.random.default_rng(1).random((2, things))
    assert kendall_tau(one, other) == kendall_tau(one, other)


def test_the_interval_holds_no_order_where_the_test_does_not_reject_it():
    rng = np.random.default_rng(0)
    for things in (4, 5, 8, 11) * 25:
        order = found(np.arange(things), np.arange(things) + rng.normal(0, 4, size=things))
        assert (order.low <= 0 <= order.high) == (order.p > 1 - LEVEL)


@pytest.mark.parametrize("things", [4, 5, 8, 11, MAX_EXACT_ITEMS + 1])
@pytest.mark.parametrize("tau", [0.0, 0.5, 0.8])
def test_intervals_cover_the_tau_of_a_population_as_often_as_they_say(things: int, tau: float):
    """Pairs drawn from a normal distribution, whose tau is 2 / pi * arcsin of its correlation."""
    rng = np.random.default_rng(things)
    correlation = np.sin(np.pi * tau / 2)
    covered = []
    for one, noise in rng.normal(size=(300, 2, things)):
        order = found(one, correlation * one + np.sqrt(1 - correlation**2) * noise)
        covered.append(order.low <= tau <= order.high)
    assert np.mean(covered) >= LEVEL - 0.025, "two standard errors over 300 simulations"


def test_words_hold_all_of_it():
    assert str(found(range(5), range(5))) == "1.00 (95% interval 0.20 to 1.00), p = 0.017"
