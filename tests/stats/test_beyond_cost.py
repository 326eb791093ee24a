"""Kendall's tau among networks of like cost compared with enumeration and simulation, and its verdict."""

from itertools import product

import numpy as np
import pytest

from hiri_search.stats.null_distribution import MAX_ENUMERATED, permutation_null
from hiri_search.stats.order_verdict import OrderVerdict
from hiri_search.stats.rank_correlation import (
    BAND_LEVEL,
    BeyondCost,
    _Group,
    _like_pairs,
    kendall_tau,
    tau_beyond_cost,
)


def beyond(first, second, cost) -> BeyondCost:
    found = tau_beyond_cost(first, second, cost)
    assert found is not None
    return found


def bands(count: int, size: int) -> list[float]:
    """Return costs of which those of a band lie within 5 %, and those of two bands do not."""
    return [2.0**band * (1 + 0.001 * place) for band, place in product(range(count), range(size))]


def chain(items: int) -> list[float]:
    """Return costs that are alike up to the fourth neighbour."""
    return [1.012**place for place in range(items)]


def test_only_pairs_within_five_percent_count():
    found = beyond([1, 2, 3, 4], [2, 1, 4, 3], [100, 105, 200, 211])
    assert (found.value, found.pairs, found.items) == (-1, 1, 2)
    assert tau_beyond_cost([1, 2, 3], [1, 2, 3], [1, 2, 4]) is None


def test_an_order_by_cost_alone_has_no_tau_beyond_cost():
    """Both scores rise with cost from band to band and are independent within a band: tau itself is near 1."""
    rng, costs = np.random.default_rng(0), np.array(bands(4, 5))
    noise = rng.normal(0, 0.05, size=(200, 2, len(costs)))
    found = [beyond(costs + first, np.log(costs) + second, costs) for first, second in noise]
    assert kendall_tau(costs + noise[0, 0], np.log(costs) + noise[0, 1]).value > 0.7
    assert abs(np.mean([tau.value for tau in found])) < 0.1
    assert np.mean([tau.low > 0 for tau in found]) <= 0.08, "5 % and two standard errors over 200 simulations"


def test_the_interval_over_one_band_is_that_of_kendalls_tau(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("hiri_search.stats.rank_correlation.LEVEL", BAND_LEVEL)
    first, second = np.random.default_rng(1).random((2, 12))
    tau, found = kendall_tau(first, second), beyond(first, second, np.full(12, 3.0))
    assert (found.value, found.low, found.high) == pytest.approx((tau.value, tau.low, tau.high))
    assert (found.pairs, found.items) == (66, 12)


@pytest.mark.parametrize("tied", [False, True])
def test_the_variance_of_s_is_that_over_all_permutations(tied: bool):
    """Four like costs in a row are a group of which the first and the last are not alike."""
    costs = np.array([1.0, 1.03, 1.06, 1.09, 1.12])
    pairs = _like_pairs(costs, costs * 1.05)
    x, y = (
        np.array([1.0, 2, 2, 5, 3] if tied else [1.0, 2, 4, 5, 3]),
        np.array([3.0, 3, 1, 7, 4] if tied else [3.0, 2, 1, 7, 4]),
    )
    assert 0 < len(pairs[0]) < 10
    assert len(x) <= MAX_ENUMERATED
    null = permutation_null(x, y, pairs)
    assert _Group(x, y, pairs).null_variance() == pytest.approx(null.probabilities @ null.values**2)


@pytest.mark.parametrize("true_tau", [0.0, 0.4, 0.6, 0.8])
@pytest.mark.parametrize("costs", [bands(3, 5), bands(2, 10), chain(6), chain(20), chain(60)], ids=len)
def test_intervals_cover_the_tau_of_a_population_at_their_level(costs: list[float], true_tau: float):
    """Scores are drawn from a bivariate normal distribution, whose tau is 2 / pi * arcsin of its correlation."""
    rng = np.random.default_rng(len(costs))
    correlation = np.sin(np.pi * true_tau / 2)
    covered = []
    for scores, noise in rng.normal(size=(300, 2, len(costs))):
        found = beyond(scores, correlation * scores + np.sqrt(1 - correlation**2) * noise, costs)
        covered.append(found.low <= true_tau <= found.high)
    assert np.mean(covered) >= BAND_LEVEL - 0.035, "two standard errors over 300 simulations"


@pytest.mark.parametrize("costs", [bands(2, 5), bands(1, 10), chain(10), chain(60)], ids=["5", "10", "chain", "long"])
def test_equal_orders_with_ties_are_not_certain(costs: list[float]):
    """An accuracy of few images has few values, so that networks of like cost have the same one."""
    scores = np.random.default_rng(2).integers(4, size=len(costs))
    found = beyond(scores, scores, costs)
    assert 0 < found.low < found.value
    assert found.value == pytest.approx(1)
    assert found.high == pytest.approx(1)


def test_a_score_that_is_the_same_for_all_networks_orders_none():
    found = beyond([10.0] * 10, range(10), bands(2, 5))
    assert (found.value, found.low, found.high, found.verdict) == (0, -1, 1, OrderVerdict.FAILS)


@pytest.mark.parametrize(
    ("value", "low", "items", "verdict"),
    [
        (0.6, 0.01, 10, "passes"),
        (0.59, 0.2, 15, "weak"),
        (0.9, 0.0, 10, "fails"),
        (1.0, 0.8, 9, "too few to tell"),
    ],
)
def test_the_bar(value: float, low: float, items: int, verdict: str):
    assert BeyondCost(value, low, 1.0, 20, items).verdict == verdict


def test_the_text_has_estimate_interval_and_pairs():
    text = "1.00 (90% interval 0.68 to 1.00; 20 pairs of like cost among 10 networks)"
    assert str(beyond(range(10), range(10), bands(2, 5))) == text
