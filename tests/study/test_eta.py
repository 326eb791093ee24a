"""Throughput and time left, from ledgers whose epochs take known times."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import many
import pytest

from hiri_search.study.config.schema import StudyConfig
from hiri_search.study.config.sections.search import ConfirmConfig
from hiri_search.study.eta import networks_wanted, remaining, seconds_left, throughput, trials_wanted
from hiri_search.study.ledger.events import (
    EpochEnded,
    Event,
    NetworkSkipped,
    RunEnded,
    TrialAsked,
    TrialBegan,
    TrialEvent,
    TrialFinished,
)
from hiri_search.study.ledger.ledger import of_kind, trials
from hiri_search.system.units import HOUR
from tests.study.records import asked, epoch, network, new_trial, study_started

EPOCHS = 6  # of many's studies
GIGA = 10**9


def _events(count: int, macs: Callable[[int], int], pace: Callable[[int, int], float]) -> Iterator[TrialEvent]:
    """Yield the events of trials in sequence; `pace` gives the seconds of an epoch of a trial."""
    now = 1000.0
    for number in range(count):
        yield asked(number, network(f"row {number}", trained_macs=macs(number)), time=now)
        curve = []
        for n in range(1, EPOCHS + 1):
            now += pace(number, n)
            curve.append(epoch(n, seconds=pace(number, n)))
            yield EpochEnded(trial=number, result=curve[-1], time=now)
        yield TrialFinished(trial=number, curve=tuple(curve), time=now)


def _times(events: Sequence[Event]) -> list[float]:
    return [event.time for event in events if event.time is not None]


def _left(study: StudyConfig, events: list[TrialEvent], until: float) -> tuple[float, float] | None:
    """Return the estimate from the events up to a time."""
    past = [event for event, time in zip(events, _times(events), strict=True) if time <= until]
    known = {trial.number: trial for trial in trials(past)}
    counted = [event.network for event in of_kind(events, TrialAsked)]
    return seconds_left(
        throughput(past, known), remaining(study, networks_wanted(study, []), counted, list(known.values()))
    )


EQUAL: Callable[[int], int] = lambda number: GIGA
CASES = {
    "even": (EQUAL, lambda number, epoch: 2.0),
    "slower later": (EQUAL, lambda number, epoch: 2.0 if number < 5 else 6.0),
    "faster later": (EQUAL, lambda number, epoch: 6.0 if number < 5 else 2.0),
    "by multiply-adds": (lambda number: GIGA * (1 + number), lambda number, epoch: 1.0 + number),
    "expensive, but not slower": (lambda number: GIGA * (1 + number), lambda number, epoch: 2.0),
}


@pytest.mark.parametrize(("macs", "pace"), CASES.values(), ids=CASES)
@pytest.mark.parametrize("done", [0.5, 0.8])
def test_the_real_time_left_lies_between_both_estimates(
    macs: Callable[[int], int], pace: Callable[..., float], done: float
):
    events = list(_events(20, macs, pace))
    end = _times(events)[-1]
    until = _times(events)[int(len(events) * done)]
    left = _left(many.ablation(20, 1), events, until)
    assert left is not None
    assert left[0] - 1e-6 <= end - until <= left[1] + 1e-6
    assert left[1] <= 3 * (end - until), "the bounds are narrow"


def test_with_equal_epochs_both_estimates_are_exact():
    events = list(_events(20, EQUAL, lambda number, epoch: 2.0))
    left = _left(many.ablation(20, 1), events, until=1000 + 10 * EPOCHS * 2.0)
    assert left == pytest.approx((10 * EPOCHS * 2.0, 10 * EPOCHS * 2.0))


def test_no_estimate_after_too_few_epochs_and_zero_at_the_end():
    events = list(_events(20, EQUAL, lambda number, epoch: 2.0))
    assert _left(many.ablation(20, 1), events, until=1000 + 3 * 2.0) is None
    assert _left(many.ablation(20, 1), events, until=float("inf")) == (0.0, 0.0)


def test_time_between_runs_and_a_clock_set_back_do_not_count():
    first, second = (list(_events(2, EQUAL, lambda number, epoch: 2.0)) for _ in range(2))
    times = _times(second)
    later = [replace(event, trial=event.trial + 2, time=time + 1e6) for event, time in zip(second, times, strict=True)]
    events: list[Event] = [*first, study_started(time=9e5), *later]
    events.insert(9, TrialBegan(trial=1, device="", time=0.0))
    known = {trial.number: trial for trial in trials(events)}
    whole = throughput(events, known)[-1]
    trained = 4 * EPOCHS * 2.0
    assert trained <= whole.hours * HOUR <= trained + 1e3 + 2 * EPOCHS * 2.0
    assert (whole.trials, whole.epochs, whole.work) == (4, 4 * EPOCHS, 4 * EPOCHS * GIGA)


def test_the_last_running_trial_sets_a_lower_bound():
    """A trial runs on one device, however fast the other trials were."""
    slow = 19
    events = list(_events(20, EQUAL, lambda number, epoch: 100.0 if number == slow else 1.0))
    until = _times(events)[-5]  # three of its epochs are left
    left = _left(many.ablation(20, 1), events, until)
    assert left is not None
    assert left[0] == pytest.approx(3 * 100.0)


RUNGS = {"epochs": [2], "keep": 0.5}
SEARCHES = {
    "plain": (many.search(20), 20, 20 * EPOCHS),
    "with rungs": (many.search(20, halving=RUNGS), 20, 20 * 2 + 10 * (EPOCHS - 2)),
    "an ablation over seeds": (many.ablation(4, 3), 12, 12 * EPOCHS),
}


@pytest.mark.parametrize(("study", "count", "epochs"), SEARCHES.values(), ids=SEARCHES)
def test_trials_and_epochs_of_a_study_before_its_first_trial(study: StudyConfig, count: int, epochs: int):
    networks = networks_wanted(study, [])
    assert trials_wanted(study, networks) == count
    assert remaining(study, networks, [], []).epochs == epochs


def test_confirmations_count():
    confirm = ConfirmConfig(top=3, partners=4, seeds=(0, 1), epochs="x2")
    study = many.search(20).model_copy(update={"confirm": confirm})
    assert trials_wanted(study, 20) == 20 + 14
    assert remaining(study, 20, [], []).epochs == 20 * EPOCHS + 14 * 2 * EPOCHS


def test_no_partner_is_expected_where_no_trained_network_has_one():
    study = many.search(4).model_copy(update={"confirm": ConfirmConfig(top=1, partners=4, seeds=(0, 1))})
    networks = [network(f"network {number}", macs=2**number) for number in range(4)]
    apart = [new_trial(n, net, state="finished", curve=[epoch(EPOCHS)]) for n, net in enumerate(networks)]
    assert trials_wanted(study, 4, apart) == 4 + 2
    assert trials_wanted(study, 4, apart[:3]) == 4 + 4 * 2, "one is still to come"


def test_steps_only_grow():
    events = list(_events(5, EQUAL, lambda number, epoch: 2.0))
    steps = throughput(events, {trial.number: trial for trial in trials(events)})
    assert all(a.epochs <= b.epochs and a.hours <= b.hours for a, b in pairwise(steps))
    assert len(steps) == 1 + 5 * (EPOCHS + 1)


SMALL_SPACE = many.search(50).model_copy(update={"space": "hr(16|32|64 e=4)"})
ENDED = RunEnded(seconds={}, exhausted=True)
SKIPPED = NetworkSkipped(proposal=1, decisions={}, reason="does not fit")
TRIED = [asked(number, network(f"network {number}")) for number in (0, 1)]
WANTED: dict[str, tuple[StudyConfig, list[Event], int]] = {
    "rows": (many.ablation(4, 3), [], 4),
    "a large space": (many.search(50), [], 50),
    "a large space, ended": (many.search(50), [*TRIED, RunEnded(seconds={})], 50),
    "a small space": (SMALL_SPACE, [], 3),
    "one that does not fit": (SMALL_SPACE, [SKIPPED], 2),
    "used up by constraints": (many.search(50), [study_started(), *TRIED, ENDED], 2),
    "begun again": (many.search(50), [*TRIED, ENDED, study_started()], 50),
}


@pytest.mark.parametrize(("study", "events", "count"), WANTED.values(), ids=WANTED)
def test_a_search_wants_no_more_networks_than_its_space_has(study: StudyConfig, events: list[Event], count: int):
    assert networks_wanted(study, events) == count


def test_no_confirmation_is_wanted_of_networks_that_the_space_does_not_have():
    study = SMALL_SPACE.model_copy(update={"confirm": ConfirmConfig(top=10, seeds=(0, 1), epochs="x2")})
    assert trials_wanted(study, networks_wanted(study, [])) == 3 + 3 * 2
