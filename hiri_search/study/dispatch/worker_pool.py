"""Pool of Ray workers: assignment, timeouts, lost workers, trials that need a GPU alone."""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hiri_search.study.dispatch.task import TrialSource, TrialTask
from hiri_search.study.dispatch.worker import WorkerReport
from hiri_search.study.errors import StudyError
from hiri_search.study.ledger.events import Fault, StintEnded, TrialLost
from hiri_search.system.shutdown import Shutdown

_WAIT_SECONDS = 5.0  # seconds between two timeout checks
_STACK_SECONDS = 5.0  # longest wait for the stack of a worker that hangs
_MAX_FAILED_STARTS = 3  # workers that die before their first report, if no worker ever reported
_RAISED = re.compile(r"[\w.]*(Error|Exception): ")
_COLOUR = re.compile(r"\x1b\[\d+m")
_INSTALL_ADVICE = "install hiri-search and its dependencies on the nodes, see docs/cluster.md"


@dataclass(eq=False)
class WorkerSlot:
    """A worker and its current task."""

    worker: Any  # a Ray actor, see `Worker`
    task: TrialTask | None
    trial_ended: bool = False  # an event has ended the task
    pending: Any = None  # Ray's reference to the report that the worker owes
    requested_at: float = 0.0  # time.monotonic() of that request
    node: str | None = None  # node and GPUs; None before the first report
    alone: bool = False  # the worker has a GPU for itself

    def poll(self) -> None:
        self.pending, self.requested_at = self.worker.poll.remote(), time.monotonic()


@dataclass(frozen=True)
class WorkerFactory:
    """Starts workers, and knows how many fit."""

    start: Callable[[bool], Any]  # start a worker; true: with a GPU for itself
    capacity: Callable[[], int]  # how many workers fit
    per_gpu: int = 1  # workers on one GPU
    check: Callable[[], None] = lambda: None  # called while a worker does not start; StudyError if none ever will


class WorkerPool:
    """Runs all tasks of a source on workers, and passes every event to the source."""

    def __init__(self, source: TrialSource, factory: WorkerFactory, shutdown: Shutdown, *, timeout: float) -> None:
        self.source, self.factory, self.shutdown, self.timeout = source, factory, shutdown, timeout
        self.slots: list[WorkerSlot] = []
        self.crowded: deque[TrialTask] = deque()  # tasks that need a GPU alone
        self.clearing: str | None = None  # place of the shared GPU that is being cleared for these tasks
        self.any_started = False  # at least one worker has reported
        self.failed_starts = 0

    def run(self, first: TrialTask) -> None:
        """Run all tasks, beginning with this one. StudyError if no worker can be started."""
        self._assign(first, self._start_worker(first))
        self._assign_tasks()
        stopping = False
        while self._busy():
            changed = self._wait_for_reports()
            if self.shutdown.requested and not stopping:
                stopping = True
                self._stop_workers()
            elif changed and not self.shutdown.requested:
                self._assign_tasks()

    def _stop_workers(self) -> None:
        """Stop every trial after its running epoch; kill workers that have not reported yet."""
        self._kill(*(slot for slot in self._busy() if slot.node is None))
        for slot in self._busy():
            slot.worker.stop.remote()

    # ---- assignment

    def _assign_tasks(self) -> None:
        """Assign tasks to idle and new workers; kill idle workers when the source has no more tasks."""
        self._clear_gpu()
        while slot := self._idle_slot() or self._may_start_worker():
            task = self.source.next()
            if not isinstance(task, TrialTask):
                if task is None:
                    self._kill(*(slot for slot in self.slots if not slot.task))
                break
            if task.alone and self.factory.per_gpu > 1:
                self.crowded.append(task)
                self._clear_gpu()
            else:
                self._assign(task, slot if isinstance(slot, WorkerSlot) else self._start_worker(task))

    def _idle_slot(self) -> WorkerSlot | None:
        return next((slot for slot in self._shared_slots() if not slot.task), None)

    def _shared_slots(self) -> list[WorkerSlot]:
        """Slots on GPUs that stay shared."""
        return [slot for slot in self.slots if not slot.alone and (not self.clearing or slot.node != self.clearing)]

    def _may_start_worker(self) -> bool:
        if self.clearing:
            return len(self._shared_slots()) < self.factory.capacity() - self.factory.per_gpu
        return len(self._shared_slots()) < max(1, self.factory.capacity())

    def _start_worker(self, task: TrialTask, *, alone: bool = False) -> WorkerSlot:
        self.slots.append(WorkerSlot(self.factory.start(alone), task, alone=alone))
        return self.slots[-1]

    def _assign(self, task: TrialTask, slot: WorkerSlot) -> None:
        slot.task, slot.trial_ended = task, False
        slot.pending, slot.requested_at = slot.worker.start.remote(task), time.monotonic()

    def _clear_gpu(self) -> None:
        """Wait until all trials on one shared GPU have ended, then give this GPU to a task that needs it alone."""
        if not self.crowded:
            self._kill(*(slot for slot in self.slots if slot.alone and not slot.task))
            if not any(slot.alone for slot in self.slots):
                self.clearing = None
            return
        if self.clearing is None:
            self.clearing = next((slot.node for slot in self.slots if slot.node), None)
        sharing = [slot for slot in self.slots if slot.node == self.clearing and not slot.alone]
        self._kill(*(slot for slot in sharing if not slot.task))
        alone = next((slot for slot in self.slots if slot.alone), None)
        if alone and not alone.task:
            self._assign(self.crowded.popleft(), alone)
        elif not alone and all(not slot.task for slot in sharing):
            task = self.crowded.popleft()
            self._assign(task, self._start_worker(task, alone=True))

    def _kill(self, *slots: WorkerSlot) -> None:
        import ray

        for slot in slots:
            self.slots.remove(slot)
            ray.kill(slot.worker)

    def _busy(self) -> list[WorkerSlot]:
        return [slot for slot in self.slots if slot.task]

    # ---- reports

    def _wait_for_reports(self) -> bool:
        """Handle reports and timeouts; return true if tasks may be assigned now."""
        import ray

        busy = self._busy()
        ready, _ = ray.wait([slot.pending for slot in busy], timeout=_WAIT_SECONDS)
        changed = False
        for slot in busy:
            if slot.pending in ready:
                changed |= self._on_report(slot)
            elif slot.node is not None and time.monotonic() - slot.requested_at > self.timeout:
                self._lose(slot, f"its worker did not answer for {self.timeout:.0f} s")
                changed = True
        if not ready and any(slot.node is None for slot in busy):
            self.factory.check()
        return changed

    def _on_report(self, slot: WorkerSlot) -> bool:
        import ray

        try:
            report: WorkerReport = ray.get(slot.pending)
        except ray.exceptions.RayActorError as error:
            self._lose(slot, _death_reason(error))
            return True
        self.slots.append(self.slots.pop(self.slots.index(slot)))  # the next wait serves the other workers first
        self.any_started, slot.node = True, report.node
        self._forward(slot, report)
        if slot not in self.slots or not report.running:
            return True
        slot.poll()
        return bool(report.events)

    def _forward(self, slot: WorkerSlot, report: WorkerReport) -> None:
        """Pass the events of a report to the source; a trial without heartbeat or end event is lost."""
        assert slot.task
        trial = slot.task.trial
        for event in report.events:
            slot.trial_ended |= isinstance(event, StintEnded)
            self.source.on_event(event)
        if report.running and not slot.trial_ended and report.seconds_silent > self.timeout:
            self._lose(slot, f"no step for {report.seconds_silent:.0f} s", stack=self._stack(slot))
        elif not report.running:
            slot.task = None
            if not slot.trial_ended and not self.shutdown.requested:
                reason = "its thread ended without an end event"
                self.source.on_event(TrialLost(trial=trial, fault="process", reason=reason))

    def _stack(self, slot: WorkerSlot) -> str:
        """Return the stack of the trial; empty if the worker does not answer."""
        import ray

        try:
            return str(ray.get(slot.worker.stack.remote(), timeout=_STACK_SECONDS))
        except ray.exceptions.RayError:
            return ""

    def _lose(self, slot: WorkerSlot, reason: str, *, stack: str = "") -> None:
        """Kill a worker and report its trial as lost. StudyError if no worker can be started at all."""
        assert slot.task
        self._kill(slot)
        self.failed_starts += slot.node is None
        if not self.any_started and self.failed_starts >= _MAX_FAILED_STARTS:
            raise StudyError(f"no worker for trials could be started: {reason}")
        fault: Fault = "environment" if slot.node is None else "process"
        self.source.on_event(TrialLost(trial=slot.task.trial, fault=fault, reason=reason, traceback=stack))


def _death_reason(error: Exception) -> str:
    """Return the reason of an actor's death as one line of Ray's message."""
    lines = [_COLOUR.sub("", line).strip() for line in str(error).splitlines() if line.strip()]
    if raised := [line for line in lines if _RAISED.match(line)]:  # an exception while the actor started
        return f"{raised[-1][:300]}{f'; {_INSTALL_ADVICE}' if 'No module named' in raised[-1] else ''}"
    causes = [line for line in lines if "cause" in line.lower() or "detail" in line.lower() or "node" in line.lower()]
    return f"its worker died: {(causes or lines or ['killed'])[-1][:300]}"
