"""Kendall's tau compared with published examples, enumeration and simulation."""

from itertools import permutations

import numpy as np
import pytest

from hiri_search.stats.rank_correlation import MAX_EXACT_ITEMS, Tau, kendall_tau
from hiri_search.stats.significance import LEVEL


def tau_of(first, second) -> Tau:
    tau = kendall_tau(first, second)
    assert tau is not None
    return tau


def test_tau_of_a_published_example():
    """Hollander and Wolfe (1973), p. 185 f., tuna: R's ?cor.test has tau 0.4444444 and a one-sided p of 0.05972."""
    lightness = [44.4, 45.9, 41.9, 53.3, 44.7, 44.1, 50.7, 45.2, 60.1]
    quality = [2.6, 3.1, 2.5, 5.0, 3.6, 4.0, 5.2, 2.8, 3.8]
    tau = tau_of(lightness, quality)
    assert tau.value == pytest.approx(0.4444444, abs=1e-7)
    assert tau.p == pytest.approx(2 * 0.05972, abs=1e-5)
    assert tau.low < 0 < tau.value < tau.high


@pytest.mark.parametrize(
    ("items", "smallest_p"),
    [(4, 0.083), (5, 0.017), (6, 0.0028), (7, 0.0004)],
    # Kendall (1970), Rank correlation methods, appendix table 1: probability of the highest S, here two-sided
)
def test_the_smallest_p_of_few_items(items: int, smallest_p: float):
    assert tau_of(range(items), range(items)).p == pytest.approx(smallest_p, abs=6e-4)


def test_equal_orders_of_four_networks_are_not_significant():
    """One of the 24 orders is equal and one is reversed: p is 2 / 24, or 8 %."""
    tau = tau_of([1, 2, 3, 4], [10, 20, 30, 40])
    assert tau.value == pytest.approx(1)
    assert tau.high == 1
    assert tau.low < 0


def test_a_reversed_order_changes_only_the_sign():
    up, down = tau_of([1, 2, 3, 5, 4], [1, 2, 3, 4, 5]), tau_of([-1, -2, -3, -5, -4], [1, 2, 3, 4, 5])
    assert (down.value, down.low, down.high, down.p) == pytest.approx((-up.value, -up.high, -up.low, up.p))


ONE_TIED = [([1, 2, 3, 4, 5], [1, 1, 2, 2, 2]), ([3, 1, 2, 2, 3, 3], [1, 2, 3, 4, 5, 6])]
BOTH_TIED = [([1, 1, 2, 3, 4], [1, 2, 2, 3, 3]), ([1, 1, 2, 3, 4, 4], [1, 2, 2, 3, 3, 3])]


@pytest.mark.parametrize(("first", "second"), ONE_TIED + BOTH_TIED)
def test_with_ties_p_is_the_share_of_permutations_as_extreme(first: list[int], second: list[int]):
    permuted = [abs(_kendalls_s(first, order)) for order in permutations(second)]
    assert tau_of(first, second).p == pytest.approx(np.mean(np.array(permuted) >= abs(_kendalls_s(first, second))))


def test_twelve_items_with_ties_in_both_scores_have_an_interval():
    rng = np.random.default_rng(0)
    scores = rng.integers(6, size=12)
    tau = tau_of(scores, scores + rng.integers(2, size=12))
    assert 0 < tau.low < tau.value <= tau.high <= 1
    assert tau.p < 0.01


def _kendalls_s(first, second) -> float:
    pairs = [(i, j) for i in range(len(first)) for j in range(i)]
    return sum(np.sign(first[i] - first[j]) * np.sign(second[i] - second[j]) for i, j in pairs)


@pytest.mark.parametrize("scores", [([1, 2], [1, 2]), ([1, 1, 1], [1, 2, 3]), ([1, 2, 3], [0, 0, 0])])
def test_tau_is_none_where_it_is_not_defined(scores):
    assert kendall_tau(*scores) is None


@pytest.mark.parametrize("items", [12, MAX_EXACT_ITEMS + 1])
def test_equal_scores_give_equal_intervals(items: int):
    first, second = np.random.default_rng(1).random((2, items))
    assert kendall_tau(first, second) == kendall_tau(first, second)


def test_the_interval_contains_0_exactly_where_the_test_is_not_significant():
    rng = np.random.default_rng(0)
    for items in (4, 5, 8, 11) * 25:
        tau = tau_of(np.arange(items), np.arange(items) + rng.normal(0, 4, size=items))
        assert (tau.low <= 0 <= tau.high) == (tau.p > 1 - LEVEL)


@pytest.mark.parametrize("items", [4, 5, 8, 11, MAX_EXACT_ITEMS + 1])
@pytest.mark.parametrize("true_tau", [0.0, 0.5, 0.8])
def test_intervals_cover_the_tau_of_a_population_at_their_confidence_level(items: int, true_tau: float):
    """Pairs are drawn from a bivariate normal distribution, whose tau is 2 / pi * arcsin of its correlation."""
    rng = np.random.default_rng(items)
    correlation = np.sin(np.pi * true_tau / 2)
    covered = []
    for scores, noise in rng.normal(size=(300, 2, items)):
        tau = tau_of(scores, correlation * scores + np.sqrt(1 - correlation**2) * noise)
        covered.append(tau.low <= true_tau <= tau.high)
    assert np.mean(covered) >= LEVEL - 0.025, "two standard errors over 300 simulations"


def test_the_text_has_estimate_interval_and_p():
    assert str(tau_of(range(5), range(5))) == "1.00 (95% interval 0.20 to 1.00), p = 0.017"
