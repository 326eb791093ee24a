"""TaskTracker without Ray: tasks are given out, and every end becomes the right event."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from hiri_search.study.dispatch.task import Wait
from hiri_search.study.dispatch.task_tracker import (
    MAX_FAILED_STARTS,
    Assignment,
    TaskTracker,
    death_reason,
    training_thread,
)
from hiri_search.study.dispatch.watchdog import STACK_FILE
from hiri_search.study.errors import StudyError
from hiri_search.study.ledger.events import (
    EpochEnded,
    TrialBegan,
    TrialFailed,
    TrialFinished,
    TrialLost,
    TrialOutOfMemory,
    TrialPaused,
    TrialScored,
)
from hiri_search.system.shutdown import Shutdown
from tests.study.dispatch.fake_work import ListedTrials
from tests.study.records import epoch


@dataclass
class FixedWorkers:
    """A number of workers; `error` is raised by a check."""

    room: int = 2
    per_gpu: int = 1
    error: StudyError | None = None

    def capacity(self) -> int:
        return self.room

    def check(self) -> None:
        if self.error:
            raise self.error


def _tracker(home: Path, count: int = 4, *, epochs: int = 1, workers: FixedWorkers | None = None) -> TaskTracker:
    source = ListedTrials(home, count, epochs=epochs)
    first = source.next()
    assert first
    assert not isinstance(first, Wait)
    return TaskTracker(first, source, Shutdown(), workers or FixedWorkers())


def _given(tracker: TaskTracker, *keys: str) -> list[int]:
    """Return the trials that are given out for these keys; their workers start."""
    trials = []
    for key in keys:
        if task := tracker.next_task(key):
            trials.append(task.trial)
            tracker.started(key)
    return trials


def test_no_more_tasks_are_given_out_than_there_is_capacity_for(tmp_path: Path):
    tracker = _tracker(tmp_path)
    assert _given(tracker, "a", "b", "c") == [0, 1]
    tracker.epoch_ended("a", epoch(1), {})
    tracker.completed("a")
    assert _given(tracker, "c", "d") == [2]


def test_the_end_comes_when_all_tasks_have_ended_and_the_source_has_none(tmp_path: Path):
    tracker = _tracker(tmp_path, 1)
    assert not tracker.finished
    assert _given(tracker, "a", "b") == [0]
    assert not tracker.finished
    tracker.worker_died("a", "killed")
    assert not tracker.finished, "the lost trial comes again"
    assert _given(tracker, "b") == [0]
    tracker.epoch_ended("b", epoch(1), {})
    tracker.completed("b")
    assert not tracker.finished, "the result may lead to another trial"
    assert not tracker.next_task("c")
    assert tracker.finished


def test_the_events_of_a_trial_come_in_order(tmp_path: Path):
    tracker = _tracker(tmp_path, epochs=2)
    _given(tracker, "a")
    tracker.began("a", "CPU")
    scores = {"zen": 1.5}
    tracker.epoch_ended("a", epoch(1), scores)
    tracker.epoch_ended("a", epoch(2), scores)
    tracker.completed("a")
    assert isinstance(tracker.source, ListedTrials)
    assert tracker.source.events == [
        TrialBegan(trial=0, device="CPU"),
        TrialScored(trial=0, scores={"zen": 1.5}),
        EpochEnded(trial=0, result=epoch(1)),
        EpochEnded(trial=0, result=epoch(2)),
        TrialFinished(trial=0, curve=(epoch(1), epoch(2))),
    ]


def test_scores_that_the_ledger_has_are_not_recorded_again(tmp_path: Path):
    tracker = _tracker(tmp_path, epochs=2)
    scored = replace(tracker.source.tasks[0], epochs_done=1, scores={"zen": 1.5})
    tracker.assignments["a"] = Assignment(scored, (epoch(1),))
    tracker.epoch_ended("a", epoch(2), {"zen": 1.5})
    assert tracker.source.events == [EpochEnded(trial=0, result=epoch(2))]


def test_a_trial_pauses_at_its_rung(tmp_path: Path):
    tracker = _tracker(tmp_path, 1, epochs=3)
    assert tracker._first
    tracker._first = replace(tracker._first, until=1)
    _given(tracker, "a")
    tracker.epoch_ended("a", epoch(1), {})
    tracker.completed("a")
    assert isinstance(tracker.source, ListedTrials)
    assert tracker.source.reported(TrialPaused) == [TrialPaused(trial=0, curve=(epoch(1),))]


def test_a_task_that_ends_too_early_is_lost(tmp_path: Path):
    tracker = _tracker(tmp_path, epochs=2)
    _given(tracker, "a")
    tracker.epoch_ended("a", epoch(1), {})
    tracker.completed("a")
    assert isinstance(tracker.source, ListedTrials)
    (lost,) = tracker.source.reported(TrialLost)
    assert (lost.fault, lost.reason) == ("process", "it ended after 1 of 2 epochs")


def test_what_a_worker_says_of_a_failure_is_passed_on(tmp_path: Path):
    tracker = _tracker(tmp_path)
    _given(tracker, "a")
    events = [TrialScored(trial=0, scores={"zen": 1.5}), TrialFailed(trial=0, reason="loss is nan")]
    tracker.failed("a", events)
    assert isinstance(tracker.source, ListedTrials)
    assert tracker.source.events == events


def test_the_report_of_the_watchdog_says_why_a_trial_was_lost(tmp_path: Path):
    tracker = _tracker(tmp_path)
    task = tracker.next_task("a")
    assert task
    tracker.started("a")
    task.checkpoint.parent.mkdir()
    stack = 'Thread 1:\n  File "x.py", line 1\n\nThread 2:\n  File "hiri_search/study/dispatch/worker.py", line 9'
    task.checkpoint.with_name(STACK_FILE).write_text(f"no step for 3 s\n{stack}")
    tracker.worker_died("a", "RayActorError: killed")
    assert isinstance(tracker.source, ListedTrials)
    (lost,) = tracker.source.reported(TrialLost)
    assert (lost.fault, lost.reason) == ("process", "no step for 3 s")
    assert lost.traceback == 'Thread 2:\n  File "hiri_search/study/dispatch/worker.py", line 9'
    assert not task.checkpoint.with_name(STACK_FILE).exists(), "or the next loss would have the same reason"


def test_a_worker_that_never_started_is_a_fault_of_the_environment(tmp_path: Path):
    tracker = _tracker(tmp_path)
    _given(tracker, "a")
    tracker.next_task("b")
    tracker.worker_died("b", "node died")
    assert isinstance(tracker.source, ListedTrials)
    assert [lost.fault for lost in tracker.source.reported(TrialLost)] == ["environment"]


def test_a_fault_of_the_environment_may_be_known(tmp_path: Path):
    tracker = _tracker(tmp_path)
    _given(tracker, "a")
    tracker.worker_died("a", "OSError: no space left", fault="environment")
    assert isinstance(tracker.source, ListedTrials)
    assert [(lost.fault, lost.reason) for lost in tracker.source.reported(TrialLost)] == [
        ("environment", "OSError: no space left")
    ]


def test_an_epoch_that_is_trained_again_replaces_the_first_one(tmp_path: Path):
    tracker = _tracker(tmp_path, epochs=2)
    _given(tracker, "a")
    tracker.epoch_ended("a", epoch(1), {})
    tracker.worker_died("a", "killed")
    assert isinstance(tracker.source, ListedTrials)
    tracker.source.left.insert(0, tracker.source.left.pop())
    _given(tracker, "b")
    again = [epoch(1, top1=40.0), epoch(2, top1=41.0)]
    for each in again:
        tracker.epoch_ended("b", each, {})
    tracker.completed("b")
    assert tracker.source.reported(TrialFinished) == [TrialFinished(trial=0, curve=tuple(again))]


def test_a_worker_trains_from_its_beginning_to_its_last_epoch(tmp_path: Path):
    tracker = _tracker(tmp_path)
    _given(tracker, "a")
    assert not tracker.trains("a")
    tracker.began("a", "CPU")
    assert tracker.trains("a")
    tracker.epoch_ended("a", epoch(1), {})
    assert not tracker.trains("a")


def test_a_run_ends_where_no_worker_ever_starts(tmp_path: Path):
    tracker = _tracker(tmp_path)
    for number in range(MAX_FAILED_STARTS - 1):
        tracker.next_task(f"{number}")
        tracker.worker_died(f"{number}", "ModuleNotFoundError: No module named 'timm'")
    tracker.next_task("last")
    with pytest.raises(StudyError, match=r"no worker .* could be started: .*'timm'; install hiri-search"):
        tracker.worker_died("last", "ModuleNotFoundError: No module named 'timm'")


def test_a_ray_that_has_ended_ends_the_run_and_no_trial_is_lost(tmp_path: Path):
    workers = FixedWorkers()
    tracker = _tracker(tmp_path, workers=workers)
    _given(tracker, "a")
    tracker.check_workers()
    workers.error = StudyError("Ray has ended")
    tracker.check_workers()  # nothing waits for a worker
    with pytest.raises(StudyError, match="Ray has ended"):
        tracker.worker_died("a", "killed")
    assert isinstance(tracker.source, ListedTrials)
    assert not tracker.source.events


def test_no_task_shares_a_gpu_while_another_one_waits_for_a_gpu_alone(tmp_path: Path):
    tracker = _tracker(tmp_path, 4, workers=FixedWorkers(room=4, per_gpu=2))
    assert _given(tracker, "a") == [0]
    tracker.failed("a", [TrialOutOfMemory(trial=0, reason="too large")])
    assert isinstance(tracker.source, ListedTrials)
    tracker.source.left.insert(0, tracker.source.left.pop())
    assert _given(tracker, "b") == [0]
    tracker.assignments["b"].started = False
    assert not tracker.next_task("c")
    tracker.started("b")
    assert _given(tracker, "c") == [1]


def test_after_a_shutdown_tasks_end_without_an_event_and_no_new_one_begins(tmp_path: Path):
    tracker = _tracker(tmp_path, epochs=2)
    _given(tracker, "a")
    tracker.epoch_ended("a", epoch(1), {})
    tracker.shutdown.requested = True
    assert not tracker.next_task("b")
    assert not tracker.finished
    tracker.completed("a")
    assert tracker.finished
    assert isinstance(tracker.source, ListedTrials)
    assert tracker.source.events == [EpochEnded(trial=0, result=epoch(1))]


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("", "its worker died: killed"),
        (
            "\x1b[36mray::x\x1b[39m\nValueError: bad\nRuntimeError: The actor with name ImplicitFunc failed",
            "ValueError: bad",
        ),
        ("The actor died.\n\tnode_id: ab\nThe actor's node has died", "its worker died: The actor's node has died"),
    ],
)
def test_the_reason_of_a_death_is_one_line(message: str, reason: str):
    assert death_reason(message) == reason


def test_a_stack_without_the_thread_of_a_trial_is_shown_whole():
    assert training_thread("one\n\ntwo") == "one\n\ntwo"
