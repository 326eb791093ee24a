"""Signal to noise: computed by hand, and without a bias by noise."""

import numpy as np
import pytest
from scipy.stats import kendalltau

from hiri_search.stats.signal_to_noise import reachable_tau, signal_to_noise


def test_the_noise_of_the_means_is_taken_from_the_spread_between_items():
    """Means 1 and 7, variance within 2: between is (18 - 2 / 2) = 17."""
    assert signal_to_noise([[0, 2], [6, 8]]) == pytest.approx((17 / 2) ** 0.5)


@pytest.mark.parametrize("scores", [[[1], [2]], [[1, 2]], [[1, 1], [2, 2]], [], [[], [1, 2]]])
def test_without_a_spread_there_is_none(scores: list[list[float]]):
    assert signal_to_noise(scores) is None


@pytest.mark.parametrize("true", [0.5, 2.0])
def test_it_is_near_the_true_ratio(true: float):
    rng = np.random.default_rng(0)
    items = true * rng.normal(size=(200, 1)) + rng.normal(size=(200, 3))
    assert signal_to_noise(items.tolist()) == pytest.approx(true, rel=0.15)


@pytest.mark.parametrize("noise", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("repetitions", [1, 2, 5])
def test_no_prediction_comes_nearer_to_noisy_means_than_the_truth(noise: float, repetitions: int):
    rng = np.random.default_rng(0)
    true = rng.normal(size=3_000)
    first, second = (true + noise * rng.normal(size=true.size) for _ in range(2))
    means = true + noise * rng.normal(size=(repetitions, true.size)).mean(axis=0)
    repeated = kendalltau(first, second).statistic
    assert reachable_tau(repeated, repetitions) == pytest.approx(kendalltau(true, means).statistic, abs=0.03)


def test_repetitions_that_do_not_agree_let_nothing_be_predicted():
    assert reachable_tau(-0.2, 4) == 0
    assert reachable_tau(1.0, 1) == 1
