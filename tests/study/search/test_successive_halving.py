"""Successive halving: promotion by fronts, in any order of arrival, and unchanged after a crash."""

from dataclasses import replace
from random import Random

import pytest

from hiri_search.study.config.schema import StudyConfig
from hiri_search.study.config.sections.search import HalvingConfig
from hiri_search.study.ledger.trial import Trial
from hiri_search.study.search.objectives import objectives_of
from hiri_search.study.search.successive_halving import SuccessiveHalving
from tests.study.records import epoch, network, new_trial

OBJECTIVES = objectives_of(StudyConfig.model_validate({"space": "hr(8|16)"}))  # top-1 and GMACs
CONFIG = HalvingConfig(epochs=(1, 3), keep=0.5)


def _trial(number: int, top1: float, gmacs: float, *, epochs: int = 1, rung: int = 0, state: str = "paused") -> Trial:
    curve = [epoch(n, top1) for n in range(1, epochs + 1)]
    return new_trial(number, network(macs=int(gmacs * 1e9)), state=state, rung=rung, curve=curve)


def _promoted(trials: list[Trial], config: HalvingConfig = CONFIG, **options: bool) -> list[int]:
    """Return the numbers of all promoted trials in order; each is trained on at once."""
    halving, promoted = SuccessiveHalving(config, OBJECTIVES), []
    for trial in trials:
        halving.update(trial)
    while trial := halving.promoted(**options):
        promoted.append(trial.number)
        halving.update(replace(trial, state="unfinished"))
    return promoted


def test_a_trial_pauses_after_each_rung_and_then_is_trained_to_the_end():
    halving = SuccessiveHalving(CONFIG, OBJECTIVES)
    assert [halving.next_rung(_trial(0, 50, 1, rung=rung)) for rung in (0, 1, 3)] == [1, 3, None]


def test_a_trial_killed_at_a_rung_before_its_pause_still_pauses_there():
    """Killed between the two events: the ledger holds the epoch and not the pause."""
    assert SuccessiveHalving(CONFIG, OBJECTIVES).next_rung(_trial(0, 50, 1, epochs=1, state="unfinished")) == 1


def test_the_best_share_is_promoted():
    same_cost = [_trial(number, top1, 1.0) for number, top1 in enumerate((10, 40, 30, 20))]
    assert _promoted(same_cost) == [1, 2]


def test_a_cheap_network_is_not_stopped_for_being_worse_than_an_expensive_one():
    cheap, expensive = _trial(0, 20.0, 0.1), _trial(1, 60.0, 5.0)
    dominated = [_trial(number, 15.0, 1.0 + number) for number in (2, 3)]
    assert sorted(_promoted([cheap, expensive, *dominated])) == [0, 1]


def test_no_trial_is_promoted_before_enough_have_reached_the_rung():
    single = [_trial(0, 50, 1)]
    assert _promoted(single) == []
    assert _promoted(single, last=True) == [0], "at the end each rung promotes one"


def test_promoted_trials_still_count_at_their_rung():
    promoted = _trial(0, 50, 1, epochs=2, state="unfinished")
    assert _promoted([promoted, _trial(1, 40, 1)]) == []
    assert _promoted([promoted, *(_trial(number, 40 - number, 1) for number in (1, 2, 3))]) == [1]


def test_failed_trials_do_not_count():
    failed = [_trial(number, 1, 9, state="failed") for number in (1, 2, 3)]
    assert _promoted([_trial(0, 50, 1), *failed]) == []


def test_the_highest_rung_promotes_first():
    high = [_trial(number, 50 + number, 1, epochs=3) for number in (0, 1)]
    low = [_trial(number, 50 + number, 1) for number in (2, 3, 4, 5)]
    assert _promoted([*low, *high])[0] == 1


def test_trials_are_assigned_to_brackets_in_turn_and_each_bracket_starts_one_rung_later():
    halving = SuccessiveHalving(with_brackets(3), OBJECTIVES)
    assert [halving.next_rung(_trial(number, 50, 1, epochs=0)) for number in range(4)] == [1, 3, None, 1]


def test_brackets_are_ranked_separately():
    trials = [_trial(0, 10, 1), _trial(1, 90, 1, epochs=3), _trial(2, 9, 1), _trial(3, 80, 1, epochs=3)]
    assert sorted(_promoted(trials, with_brackets(2))) == [0, 1]


def with_brackets(brackets: int) -> HalvingConfig:
    return HalvingConfig(epochs=(1, 3), keep=0.5, brackets=brackets)


@pytest.mark.parametrize("seed", range(5))
def test_the_order_in_which_trials_are_listed_does_not_matter(seed: int):
    rng = Random(seed)
    trials = [_trial(number, rng.uniform(0, 100), rng.uniform(1, 5)) for number in range(20)]
    assert len(_promoted(trials)) == 10
    assert sorted(_promoted(rng.sample(trials, 20))) == sorted(_promoted(trials))


def test_a_rung_compares_averaged_weights_where_they_were_measured():
    averages = {0: 30.0, 1: 10.0, 2: 40.0, 3: 20.0}
    trials = [_trial(number, 50.0, 1.0) for number in averages]
    for trial in trials:
        trial.curve = [epoch(1, 10.0 * trial.number, more={"ema_top1": averages[trial.number]})]
    assert _promoted(trials) == [2, 0], "the last weights alone would promote 3 and 2"
