"""Intervals against published examples and by simulation."""

import numpy as np
import pytest

from hiri_search.report.statistics import kendall


def test_taus_of_a_published_example():
    """Two judges and ten essays (Kendall 1938's setting; tau by counting the pairs by hand)."""
    one = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    other = [4, 7, 2, 10, 3, 6, 8, 1, 5, 9]
    ordered = sum(np.sign((one[i] - one[j]) * (other[i] - other[j])) for i in range(len(one)) for j in range(i)) / (
        len(one) * (len(one) - 1) / 2
    )
    found = kendall(one, other)
    assert found is not None
    assert found.value == pytest.approx(ordered)
    assert found.low < found.value < found.high


def test_the_same_order_is_one_and_the_reverse_minus_one():
    up = kendall([1, 2, 3, 4], [10, 20, 30, 40])
    down = kendall([1, 2, 3, 4], [4, 3, 2, 1])
    assert up is not None
    assert down is not None
    assert (up.value, down.value) == (pytest.approx(1), pytest.approx(-1))


@pytest.mark.parametrize("scores", [([1, 2], [1, 2]), ([1, 1, 1], [1, 2, 3])], ids=["too few", "all the same"])
def test_where_it_is_not_defined_there_is_none(scores):
    assert kendall(*scores) is None


def test_the_same_scores_give_the_same_interval():
    rng = np.random.default_rng(1)
    one, other = rng.random((2, 12))
    assert kendall(one, other) == kendall(one, other)


def test_the_interval_covers_no_order_about_as_often_as_it_says():
    """Scores that have nothing to do with each other: 0 lies inside; a percentile bootstrap is a little too narrow."""
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(20):
        found = kendall(*rng.random((2, 30)))
        assert found is not None
        inside += found.low <= 0 <= found.high
    assert inside >= 16
