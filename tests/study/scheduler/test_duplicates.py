"""Identical trainings: one is trained, the others take over its result or wait for it."""

from __future__ import annotations

from typing import Any

import pytest

from hiri_search.study.ledger.trial import Trial
from hiri_search.study.ledger.trial_cache import CachedResult
from hiri_search.study.scheduler.duplicates import Duplicates
from tests.study.records import asked, epoch

CURVE, OTHER_CURVE = [epoch(1, 50.0)], [epoch(1, 60.0)]


def _trial(number: int, digest: str, **state: Any) -> Trial:
    return Trial(asked(number, checkpoint=f"checkpoints/{digest}/last.pt"), **state)


def _finished(number: int, digest: str, **more: Any) -> Trial:
    return _trial(number, digest, state="finished", curve=CURVE, **more)


OTHER_FOLDER = {"a": CachedResult(OTHER_CURVE, "results/b: trial 7")}
RESULTS: dict[str, tuple[list[Trial], CachedResult | None]] = {
    "of another folder": ([], OTHER_FOLDER["a"]),
    "of this study, before that of another folder": ([_finished(3, "a")], CachedResult(CURVE, "trial 3")),
    "taken over itself": ([_finished(3, "a", source="trial 1")], CachedResult(CURVE, "trial 1")),
    "not of a failed trial": ([_trial(3, "a", state="failed", curve=CURVE)], OTHER_FOLDER["a"]),
}


@pytest.mark.parametrize(("trials", "result"), RESULTS.values(), ids=RESULTS)
def test_the_result_of_the_same_training(trials: list[Trial], result: CachedResult | None):
    duplicates = Duplicates(trials, OTHER_FOLDER)
    assert duplicates.result(_trial(9, "a")) == result
    assert duplicates.result(_trial(9, "b")) is None


def test_the_first_trial_of_a_training_is_trained_and_the_others_wait():
    duplicates = Duplicates([], {})
    leader, second, third, other = (_trial(n, digest) for n, digest in enumerate("aaab"))
    assert [duplicates.must_wait(trial) for trial in (leader, second, other, third)] == [False, True, False, True]
    assert not duplicates.must_wait(leader), "a leader that was lost is continued"
    leader.state, leader.curve = "finished", CURVE
    assert duplicates.release(leader) == [second, third]
    assert duplicates.result(second) == CachedResult(CURVE, "trial 0")
    assert duplicates.release(other) == []


def test_after_a_failure_the_waiting_trials_have_no_result_and_a_new_trial_is_trained():
    duplicates = Duplicates([], {})
    leader, second, third = (_trial(number, "a") for number in range(3))
    assert [duplicates.must_wait(trial) for trial in (leader, second)] == [False, True]
    leader.state = "failed"
    assert duplicates.release(leader) == [second]
    assert duplicates.result(second) is None
    assert not duplicates.must_wait(third)


@pytest.mark.parametrize(("state", "waits"), [("paused", True), ("stopped", False), ("failed", False)])
def test_after_a_restart_a_paused_trial_still_leads(state: Any, waits: bool):
    past = _trial(0, "a", state=state, curve=CURVE)
    assert Duplicates([past], {}).must_wait(_trial(1, "a")) == waits
