"""The trial queue: the order of its steps, and the steps that wait for running trials."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest

from hiri_search.study.config.networks import resolve
from hiri_search.study.config.schema import StudyConfig
from hiri_search.study.ledger.events import TrialPromoted, TrialStopped
from hiri_search.study.ledger.trial import Trial
from hiri_search.study.scheduler import queue as queue_module
from hiri_search.study.scheduler.queue import Confirmation, ExistingTrial, NewTrial, QueueStep, TrialQueue
from tests.study.records import asked, epoch, network, new_trial

EPOCHS, RUNG = 2, 1
HALVING = {"epochs": [RUNG], "keep": 0.5}
RESUME, PROMOTE, STOP = None, TrialPromoted, TrialStopped  # the event that is recorded first
TOP1 = (50.0, 40.0, 30.0, 20.0, 10.0)  # by number; all networks cost the same


def _queue(
    trials: Sequence[Trial] = (), *, new: Iterable[int] = (), halving: bool = True, confirm: int = 0
) -> TrialQueue:
    """Return a queue of these trials, with the numbers of the trials that the search will start."""
    file = {"space": "hr(32 e=4)", "proxy": {"side": 64}, "counted": {"side": 64}, "recipe": {"epochs": EPOCHS}}
    file |= {"search": {"halving": HALVING}} if halving else {}
    file |= {"confirm": {"top": 1, "partners": 0, "seeds": confirm}} if confirm else {}
    networks = resolve(StudyConfig.model_validate(file))
    left = iter([(number, None, 0) for number in new])
    search = SimpleNamespace(ask=lambda: next(left, None))
    known = {trial.number: trial for trial in trials}
    with patch.object(queue_module, "ask_tell", lambda *given, **named: search):
        return TrialQueue(networks, known, space=networks.space, skipped=(), on_skip=lambda *skip: None)


def _trial(number: int, state: str, *, confirms: int | None = None) -> Trial:
    """Return a trial that has ended its first epoch (paused, stopped) or all of them (finished)."""
    epochs = {"finished": EPOCHS, "paused": RUNG, "stopped": RUNG}.get(state, 0)
    curve = [epoch(n, TOP1[number % len(TOP1)]) for n in range(1, epochs + 1)]
    net = network(f"net {number if confirms is None else confirms}")
    later = {} if confirms is None else {"confirms": confirms, "confirm_epochs": 4 * EPOCHS}
    return Trial(asked(number, net, **later), state, curve=curve)  # type: ignore[arg-type]


def _shown(step: QueueStep | None) -> tuple[Any, ...] | None:
    match step:
        case NewTrial(number, _, seed):
            return NewTrial, number, seed
        case Confirmation(trial, seed, epochs):
            return Confirmation, trial.number, seed, epochs
        case ExistingTrial(trial, event):
            return event and type(event), trial.number
    return None


def _run(queue: TrialQueue) -> Iterator[tuple[Any, ...] | None]:
    """Take all steps, one after the other; every trial pauses at its rung, and finishes from there."""
    while step := queue.next(set()):
        yield _shown(step)
        match step:
            case NewTrial(number):
                ended = _trial(number, "paused" if queue.halving else "finished")
            case Confirmation(trial):
                ended = _trial(len(queue.trials), "finished", confirms=trial.number)
            case ExistingTrial(trial, event):
                states = {TrialPromoted: "finished", TrialStopped: "stopped"}
                ended = _trial(trial.number, states.get(type(event), "paused"))
        queue.trials[ended.number] = ended  # type: ignore[index]
        queue.update(ended)


def test_unfinished_trials_come_first_then_promotions_new_networks_stops_and_confirmations():
    queue = _queue([_trial(0, "unfinished"), _trial(1, "paused"), _trial(2, "paused")], new=[3], confirm=2)
    assert list(_run(queue)) == [
        (RESUME, 0),
        (PROMOTE, 0),  # the best of three
        (NewTrial, 3, 0),
        (PROMOTE, 1),  # four reached the rung: two of them continue
        (STOP, 2),
        (STOP, 3),
        (Confirmation, 0, 0, 4 * EPOCHS),
        (Confirmation, 0, 1, 4 * EPOCHS),
    ]
    assert queue.next(set()) is None


def test_at_the_end_a_rung_promotes_at_least_one_trial():
    assert list(_run(_queue(new=[0]))) == [(NewTrial, 0, 0), (PROMOTE, 0)]


def test_without_rungs_and_confirmation_there_are_only_new_networks():
    queue = _queue(new=[0, 1], halving=False)
    assert list(_run(queue)) == [(NewTrial, 0, 0), (NewTrial, 1, 0)]
    assert not queue.may_grow


FINISHED, PAUSED = _trial(0, "finished"), _trial(1, "paused")
LAST: dict[str, tuple[list[Trial], tuple[Any, ...]]] = {
    "the last promotion": ([PAUSED], (PROMOTE, 1)),
    "a stop": ([FINISHED, PAUSED], (STOP, 1)),
    "a confirmation": ([FINISHED], (Confirmation, 0, 0, 4 * EPOCHS)),
}


@pytest.mark.parametrize(("trials", "step"), LAST.values(), ids=LAST)
def test_the_last_steps_wait_for_first_trainings_but_not_for_confirmations(trials: list[Trial], step: tuple[Any, ...]):
    running, confirmation = _trial(3, "unfinished"), _trial(4, "unfinished", confirms=2)
    queue = _queue([*trials, running, confirmation], confirm=1)
    queue.resumable.clear()  # both are running
    assert queue.may_grow
    assert queue.next({3, 4}) is None
    assert queue.next({3}) is None
    assert _shown(queue.next({4})) == step


def test_a_lost_trial_is_continued_before_anything_else():
    queue = _queue([FINISHED, _trial(1, "paused"), _trial(2, "paused")], new=[3], confirm=1)
    lost = new_trial(4)
    queue.resumable.append(lost)
    assert [_shown(queue.next(set())) for _ in range(2)] == [(RESUME, 4), (NewTrial, 3, 0)]


def test_confirmations_of_an_earlier_run_are_not_repeated():
    first = _queue([FINISHED], confirm=2)
    assert [step[1:3] for step in _run(first) if step] == [(0, 0), (0, 1)]
    again = _queue([FINISHED, _trial(5, "finished", confirms=0)], confirm=2)
    assert [step[1:3] for step in _run(again) if step] == [(0, 1)], "seed 0 was confirmed"
    assert [trial.number for trial in again._first_trainings()] == [0]
