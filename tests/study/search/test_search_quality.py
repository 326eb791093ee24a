"""The benchmark of samplers scores what a user would pick by true accuracies, and counts trainings honestly."""

import numpy as np
import pytest
from search_problems import Problem
from search_quality import Observations

# Network 0 is cheap and poor, 1 is dominated by 2 (as cheap, better), 3 is the most accurate; the worst is 4.
PROBLEM = Problem(
    spec="hr(32 e=4)*1..5",
    index=lambda net: net.stages[0].depth - 1,
    observed=np.array([60.0, 75.0, 74.0, 90.0, 50.0]),
    true=np.array([60.0, 70.0, 80.0, 90.0, 50.0]),
    gmacs=np.array([1.0, 2.0, 2.0, 3.0, 4.0]),
    mparams=np.ones(5),
)


def trained(indices: list[int], noise: float = 0.0) -> Observations:
    observations = Observations(PROBLEM, noise, seed=0)
    for index in indices:
        observations.train(index)
    return observations


def test_a_network_that_only_looks_better_costs_the_share_of_the_pick_but_not_of_the_trained() -> None:
    lucky = trained([0, 1, 2, 3])
    assert lucky.chosen(4) == PROBLEM.share(np.array([0, 1, 3])) < 1
    assert list(PROBLEM.shares(lucky.indices))[-1] == 1


def test_a_repeated_network_costs_a_training_only_if_trainings_are_noisy() -> None:
    assert trained([1, 1, 2]).indices == [1, 2]
    noisy = trained([1, 1, 2], noise=1.0)
    assert noisy.indices == [1, 1, 2]
    assert noisy.top1[0] != noisy.top1[1]


def test_repeated_noisy_trainings_are_averaged() -> None:
    observations = trained([1, 2], noise=1.0)
    observations.indices, observations.top1 = [1, 2, 2], [75.0, 70.0, 82.0]  # 2 has a mean of 76
    assert observations.chosen(2) == PROBLEM.share(np.array([1]))
    assert observations.chosen(3) == PROBLEM.share(np.array([2]))


@pytest.mark.parametrize("trials", [1, 2, 4])
def test_the_share_of_the_pick_is_at_most_that_of_the_trained(trials: int) -> None:
    observations = trained([3, 1, 4, 2])
    assert observations.chosen(trials) <= list(PROBLEM.shares(observations.indices))[trials - 1]
