"""Who goes on from a rung: by fronts, whatever came in which order, and as it was after a crash."""

from dataclasses import replace
from random import Random

import pytest

from hiri_search.study.config.schema import HalvingConfig
from hiri_search.study.ledger.trial import Trial
from hiri_search.study.search.successive_halving import SuccessiveHalving
from tests.study.records import epoch, network, new_trial

OBJECTIVES = ("top1", "gmacs")
RULES = HalvingConfig(epochs=(1, 3), keep=0.5)


def _trial(number: int, top1: float, gmacs: float, *, epochs: int = 1, rung: int = 0, state: str = "paused") -> Trial:
    curve = [epoch(n, top1) for n in range(1, epochs + 1)]
    return new_trial(number, network(macs=int(gmacs * 1e9)), state=state, rung=rung, curve=curve)


def _promoted(trials: list[Trial], rules: HalvingConfig = RULES, **how: bool) -> list[int]:
    """The numbers of all that go on, one after the other; each at once stands at the next rung."""
    ladder, going = SuccessiveHalving(rules, OBJECTIVES), []
    for trial in trials:
        ladder.update(trial)
    while trial := ladder.promoted(**how):
        going.append(trial.number)
        ladder.update(replace(trial, state="unfinished"))
    return going


def test_a_trial_pauses_behind_each_rung_and_then_is_trained_to_the_end():
    ladder = SuccessiveHalving(RULES, OBJECTIVES)
    assert [ladder.next_rung(_trial(0, 50, 1, rung=rung)) for rung in (0, 1, 3)] == [1, 3, None]


def test_a_trial_that_came_to_a_rung_unheard_pauses_there_all_the_same():
    """Killed between the epoch and the pause: the ledger has the one and not the other."""
    assert SuccessiveHalving(RULES, OBJECTIVES).next_rung(_trial(0, 50, 1, epochs=1, state="unfinished")) == 1


def test_the_best_share_goes_on():
    same_cost = [_trial(number, top1, 1.0) for number, top1 in enumerate((10, 40, 30, 20))]
    assert _promoted(same_cost) == [1, 2]


def test_a_cheap_network_is_not_stopped_for_being_worse_than_a_dear_one():
    cheap, dear = _trial(0, 20.0, 0.1), _trial(1, 60.0, 5.0)
    beaten = [_trial(number, 15.0, 1.0 + number) for number in (2, 3)]
    assert sorted(_promoted([cheap, dear, *beaten])) == [0, 1]


def test_nobody_goes_on_before_enough_have_come():
    one = [_trial(0, 50, 1)]
    assert _promoted(one) == []
    assert _promoted(one, last=True) == [0], "at the end one goes on from each rung"


def test_those_that_went_on_before_count_among_those_that_came():
    went_on = _trial(0, 50, 1, epochs=2, state="unfinished")
    assert _promoted([went_on, _trial(1, 40, 1)]) == []
    assert _promoted([went_on, *(_trial(number, 40 - number, 1) for number in (1, 2, 3))]) == [1]


def test_failed_trials_do_not_count():
    failed = [_trial(number, 1, 9, state="failed") for number in (1, 2, 3)]
    assert _promoted([_trial(0, 50, 1), *failed]) == []


def test_the_highest_rung_goes_first():
    high = [_trial(number, 50 + number, 1, epochs=3) for number in (0, 1)]
    low = [_trial(number, 50 + number, 1) for number in (2, 3, 4, 5)]
    assert _promoted([*low, *high])[0] == 1


def test_brackets_take_turns_and_begin_with_a_later_rung():
    ladder = SuccessiveHalving(replace_brackets(3), OBJECTIVES)
    assert [ladder.next_rung(_trial(number, 50, 1, epochs=0)) for number in range(4)] == [1, 3, None, 1]


def test_a_bracket_is_ranked_by_itself():
    trials = [_trial(0, 10, 1), _trial(1, 90, 1, epochs=3), _trial(2, 9, 1), _trial(3, 80, 1, epochs=3)]
    assert sorted(_promoted(trials, replace_brackets(2))) == [0, 1]


def replace_brackets(brackets: int) -> HalvingConfig:
    return HalvingConfig(epochs=(1, 3), keep=0.5, brackets=brackets)


@pytest.mark.parametrize("seed", range(5))
def test_the_order_in_which_trials_are_listed_does_not_matter(seed: int):
    rng = Random(seed)
    trials = [_trial(number, rng.uniform(0, 100), rng.uniform(1, 5)) for number in range(20)]
    assert len(_promoted(trials)) == 10
    assert sorted(_promoted(rng.sample(trials, 20))) == sorted(_promoted(trials))
