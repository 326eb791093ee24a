"""The benchmark of samplers scores what a user would pick by true accuracies, and counts trainings honestly."""

import numpy as np
import pytest
from search_problems import Problem
from search_quality import Run, Trainings, search

# Network 0 is cheap and poor, 1 looks better than 2 but is worse at the same cost, 3 is the best, 4 the worst.
PROBLEM = Problem(
    spec="hr(32 e=4)*1..5",
    index=lambda net: net.stages[0].depth - 1,
    observed=np.array([60.0, 81.0, 74.0, 90.0, 50.0]),
    true=np.array([60.0, 70.0, 80.0, 90.0, 50.0]),
    gmacs=np.array([1.0, 2.0, 2.0, 3.0, 4.0]),
    mparams=np.ones(5),
)


class Scripted:
    """Proposes networks of a list."""

    def __init__(self, indices: list[int]) -> None:
        self.indices, self.told = iter(indices), list[float]()

    def ask(self) -> int:
        return next(self.indices)

    def tell(self, top1: float) -> None:
        self.told.append(top1)

    def seconds(self) -> float:
        return 0.01 * len(self.told)


def trained(indices: list[int], noise: float = 0.0) -> Run:
    distinct = len(indices) if noise else len(set(indices))
    return search(Scripted(indices), Trainings(PROBLEM, noise, seed=0), last=9, limit=distinct)


def test_a_network_that_only_looks_better_costs_the_share_of_the_pick_but_not_of_the_trained() -> None:
    score = trained([0, 1, 2, 3]).score(PROBLEM, budgets=[4])
    assert score.chosen == [PROBLEM.share(np.array([0, 1, 3]))]
    assert score.chosen[0] < score.trained[0] == 1


@pytest.mark.parametrize(("noise", "trials", "repeats"), [(0.0, [1, 2], 1 / 3), (1.0, [1, 1, 2], 1 / 3)])
def test_a_repeated_network_costs_a_training_only_if_trainings_are_noisy(
    noise: float, trials: list[int], repeats: float
) -> None:
    run = trained([1, 1, 2], noise)
    assert run.indices == trials
    assert run.repeats == pytest.approx(repeats)
    assert len(set(run.top1)) == len(trials)


def test_repeated_trainings_are_averaged() -> None:
    run = Run(indices=[1, 2, 2], top1=[75.0, 70.0, 82.0])  # network 2 has a mean of 76
    assert run.chosen(PROBLEM, 2) == PROBLEM.share(np.array([1]))
    assert run.chosen(PROBLEM, 3) == PROBLEM.share(np.array([2]))


def test_the_trials_to_the_goal_and_the_milliseconds_of_a_proposal_are_those_of_the_search() -> None:
    score = trained([0, 2, 3]).score(PROBLEM, budgets=[3])
    assert (score.reached, score.ms) == (3, pytest.approx(10))
