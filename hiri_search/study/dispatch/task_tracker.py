"""TaskTracker: which tasks are with workers, and what becomes of them. It knows neither Ray nor Tune.

A key names one task at one worker; the dispatcher chooses it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from hiri_search.study.dispatch.task import TrialSource, TrialTask
from hiri_search.study.dispatch.watchdog import take_stack
from hiri_search.study.errors import StudyError
from hiri_search.study.ledger.events import (
    EpochEnded,
    Fault,
    TrialBegan,
    TrialEvent,
    TrialFinished,
    TrialLost,
    TrialPaused,
    TrialScored,
)
from hiri_search.system.shutdown import Shutdown
from hiri_search.training.job import Epoch

MAX_FAILED_STARTS = 3  # workers that die before they start a task, if no worker ever started one
_RAISED = re.compile(r"[\w.]*(Error|Exception): (?!The actor with name)")  # the exception, not Ray's words about it
_COLOUR = re.compile(r"\x1b\[\d+m")
_INSTALL_ADVICE = "install hiri-search and its dependencies on the nodes, see docs/cluster.md"
_WORKER_FILE = "study/dispatch/worker.py"  # in the stack of the thread that trains


class Workers(Protocol):
    """The workers as far as the tracker needs to know them."""

    per_gpu: int  # tasks that share a GPU

    def capacity(self) -> int:
        """Return how many tasks may be with workers, or wait for one."""

    def check(self) -> None:
        """StudyError if no worker will ever start."""


@dataclass(eq=False)
class Assignment:
    """A task that was given out."""

    task: TrialTask
    curve: tuple[Epoch, ...]  # an epoch that is trained again, without its checkpoint, replaces its first result
    started: bool = False  # a worker has it
    began: bool = False  # its beginning is recorded


class TaskTracker:
    """Gives out the tasks of a source by key, and turns what happens to them into events."""

    def __init__(self, first: TrialTask, source: TrialSource, shutdown: Shutdown, workers: Workers) -> None:
        self.source, self.shutdown, self.workers = source, shutdown, workers
        self.assignments: dict[str, Assignment] = {}
        self.error: Exception | None = None  # ends the run
        self._first: TrialTask | None = first
        self._source_is_empty = False  # until something happens
        self._any_started, self._failed_starts = False, 0

    # ---- giving out tasks

    def next_task(self, key: str) -> TrialTask | None:
        """Return the next task; None if there is none now."""
        if self.ending or self._source_is_empty or self._gpu_is_awaited or self._is_full:
            return None
        task, self._first = self._first or self.source.next(), None
        if not isinstance(task, TrialTask):
            self._source_is_empty = True
            return None
        self.assignments[key] = Assignment(task, self.source.curve(task.trial))
        return task

    @property
    def _is_full(self) -> bool:
        return len(self.assignments) >= self.workers.capacity()

    @property
    def _gpu_is_awaited(self) -> bool:
        """A task waits for a GPU alone: every new task on a shared GPU would let it wait longer."""
        waiting = (assignment for assignment in self.assignments.values() if not assignment.started)
        return self.workers.per_gpu > 1 and any(assignment.task.alone for assignment in waiting)

    @property
    def ending(self) -> bool:
        """No further task is given out."""
        return self.shutdown.requested or self.error is not None

    @property
    def finished(self) -> bool:
        """No task is with a worker, and none will be."""
        return not self.assignments and (self.ending or self._source_is_empty)

    def check_workers(self) -> None:
        """StudyError if no worker will ever start; called now and then."""
        if any(not assignment.started for assignment in self.assignments.values()):
            self.workers.check()

    def trains(self, key: str) -> bool:
        """Return true if the worker of the task is training it now."""
        assignment = self.assignments[key]
        return assignment.began and len(assignment.curve) < assignment.task.last_epoch

    # ---- what workers report

    def started(self, key: str) -> None:
        """A worker has taken the task."""
        self.assignments[key].started = self._any_started = True

    def began(self, key: str, device: str) -> None:
        """The device of the task's worker is known."""
        assignment = self.assignments[key]
        if not assignment.began:
            assignment.began = True
            self.source.on_event(TrialBegan(trial=assignment.task.trial, device=device))

    def epoch_ended(self, key: str, epoch: Epoch, scores: dict[str, float | None]) -> None:
        """An epoch of the task has ended; the scores are those of its untrained network, if it was scored."""
        assignment = self.assignments[key]
        task = assignment.task
        if scores and not task.scores and epoch.epoch == task.epochs_done + 1:
            self.source.on_event(TrialScored(trial=task.trial, scores=scores))
        assignment.curve = (*assignment.curve[: epoch.epoch - 1], epoch)
        self.source.on_event(EpochEnded(trial=task.trial, result=epoch))
        self._source_is_empty = False

    def completed(self, key: str) -> None:
        """The task has ended without an error."""
        assignment = self._remove(key)
        task, curve = assignment.task, assignment.curve
        if len(curve) >= task.last_epoch:
            kind = TrialFinished if len(curve) == task.job.recipe.epochs else TrialPaused
            self.source.on_event(kind(trial=task.trial, curve=curve))
        elif not self.ending:
            self._lose(task, "process", f"it ended after {len(curve)} of {task.last_epoch} epochs")

    def failed(self, key: str, events: Sequence[TrialEvent]) -> None:
        """The task has ended in another way, as the events say."""
        self._remove(key)
        for event in events:
            self.source.on_event(event)

    def worker_died(self, key: str, message: str, *, fault: Fault | None = None) -> None:
        """The worker of the task has died, or none could be started. StudyError if none ever could.

        Without a given fault it is one of the environment where the task was not started.
        """
        assignment = self._remove(key)
        self.workers.check()
        reason = death_reason(message)
        self._failed_starts += not assignment.started
        if not self._any_started and self._failed_starts >= MAX_FAILED_STARTS:
            raise StudyError(f"no worker for trials could be started: {reason}")
        why, _, stack = take_stack(assignment.task.checkpoint).partition("\n")
        fault = fault or ("process" if assignment.started else "environment")
        self._lose(assignment.task, fault, why or reason, stack)

    def _remove(self, key: str) -> Assignment:
        self._source_is_empty = False
        return self.assignments.pop(key)

    def _lose(self, task: TrialTask, fault: Fault, reason: str, stack: str = "") -> None:
        self.source.on_event(TrialLost(trial=task.trial, fault=fault, reason=reason, traceback=training_thread(stack)))


def training_thread(stack: str) -> str:
    """Return the part of a stack that faulthandler wrote which shows the trial's thread; all of it without one."""
    threads = stack.split("\n\n")
    return next((thread for thread in threads if _WORKER_FILE in thread), stack)


def death_reason(message: str) -> str:
    """Return the reason of a worker's death as one line of Ray's message."""
    lines = [_COLOUR.sub("", line).strip() for line in message.splitlines() if line.strip()]
    if raised := [line for line in lines if _RAISED.match(line)]:  # an exception while the worker started
        return f"{raised[-1][:300]}{f'; {_INSTALL_ADVICE}' if 'No module named' in raised[-1] else ''}"
    causes = [line for line in lines if "cause" in line.lower() or "detail" in line.lower() or "node" in line.lower()]
    return f"its worker died: {(causes or lines or ['killed'])[-1][:300]}"
