"""Networks of like cost beside the best ones of a search: their bands, and what does not decide about them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from hiri_search.stats.rank_correlation import LIKE_COST, like_cost_items
from hiri_search.study.config.schema import StudyConfig
from hiri_search.study.config.sections.search import ConfirmConfig
from hiri_search.study.ledger.trial import Trial
from hiri_search.study.search.confirmation import chosen, partners, summary
from hiri_search.study.search.objectives import objectives_of
from tests.study.records import epoch, network, new_trial

OBJECTIVES = objectives_of(StudyConfig.model_validate({"space": "hr(32 e=4)"}))
CONFIRM = ConfirmConfig()


def sizes_of_bands(costs: Sequence[float]) -> list[int]:
    """Return the number of networks in each group that pairs of like cost connect, the cheapest group first."""
    ordered = np.sort(costs)
    return [len(band) for band in np.split(ordered, np.flatnonzero(ordered[1:] > ordered[:-1] * (1 + LIKE_COST)) + 1)]


def trials(networks: int, seed: int, *, test: int = 0) -> list[Trial]:
    """Return a search with random costs, and accuracies that grow with cost; `test` seeds the test accuracies."""
    rng, of_test = np.random.default_rng(seed), np.random.default_rng(test)
    macs = np.sort(rng.uniform(1e8, 4e8, networks).astype(int))[rng.permutation(networks)]
    top1 = 50 + 20 * np.log10(macs / 1e8) + rng.normal(0, 3, networks)
    curves = [[epoch(1, float(score), test_scores={"top1": float(of_test.uniform(0, 100))})] for score in top1]
    nets = [network(f"network {number}", macs=int(cost)) for number, cost in enumerate(macs)]
    return [
        new_trial(number, net, state="finished", curve=curve)
        for number, (net, curve) in enumerate(zip(nets, curves, strict=True))
    ]


def names(confirmed: Sequence[Trial]) -> list[str]:
    return [trial.network.name for trial in confirmed]


@pytest.mark.parametrize("networks", [40, 100, 300])
def test_a_search_with_the_defaults_can_be_judged_beyond_cost(networks: int):
    """With 40 networks over a fourfold range, at least ten have another of like cost, in two bands or more."""
    for seed in range(20):
        confirmed = chosen(trials(networks, seed), CONFIRM, OBJECTIVES)
        macs = [trial.network.macs for trial in confirmed]
        assert len(set(names(confirmed))) == CONFIRM.top + CONFIRM.partners
        assert like_cost_items(macs) >= 10
        assert len([size for size in sizes_of_bands(macs) if size > 1]) >= 2
        assert max(macs) > 2 * min(macs)


def test_the_best_come_first_and_do_not_depend_on_their_partners():
    searched = trials(60, 1)
    alone = chosen(searched, ConfirmConfig(partners=0), OBJECTIVES)
    assert len(alone) == 5
    assert names(chosen(searched, CONFIRM, OBJECTIVES))[:5] == names(alone)


def test_no_score_decides_about_partners():
    """Test scores decide nothing; of validation scores, only which networks are the best."""
    first, other = (chosen(trials(60, 1, test=test), CONFIRM, OBJECTIVES) for test in (0, 1))
    assert names(first) == names(other)
    costs = [trial.network.macs for trial in trials(60, 1)]
    beside = partners(costs, [3, 7], 12)
    assert len({*beside, 3, 7}) == 14
    assert partners(costs, [7, 3], 12) == beside, "nor the order of the best"


def test_bands_are_around_the_best_networks_and_far_apart():
    """Each best network has four others within 5 %, and there are many more of another cost."""
    around = [center * (1 + 0.01 * step) for center in (1.0, 2.0, 4.0) for step in range(5)]
    costs = [*around, *np.linspace(2.6, 2.7, 50)]
    assert sorted(partners(costs, [0, 5, 10], 12)) == [1, 2, 3, 4, 6, 7, 8, 9, 11, 12, 13, 14]


def test_partners_are_the_first_networks_of_their_band():
    """Later networks of a search gather at its front, the first ones are drawn from the whole space."""
    assert partners([1.0] * 20, [10], 4) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("costs", "found"),
    [
        ([], []),
        ([1.0], []),
        ([1.0, 2.0, 4.0, 8.0], []),
        ([1.0, 1.04, 4.0, 8.0], [1]),
        ([1.0, 2.0, 2.01, 4.0], [1, 2]),
        ([1.0, 1.05, 1.1025, 4.0], [1, 2]),
    ],
    ids=["none", "one", "all apart", "one of like cost", "two elsewhere", "a chain"],
)
def test_where_few_networks_have_like_cost_there_are_few_partners(costs: list[float], found: list[int]):
    assert sorted(partners(costs, [0] if costs else [], 12)) == found


def test_too_few_networks_of_like_cost_are_said_before_they_are_trained():
    enough = summary(chosen(trials(60, 0), CONFIRM, OBJECTIVES), CONFIRM)
    assert enough == "confirming the best 5 networks, and 12 more of like cost"
    few = summary(chosen(trials(6, 0), CONFIRM, OBJECTIVES), CONFIRM)
    assert "and a verdict on the order of the short trainings needs 10; train more networks to the end (search." in few
