"""Worker: runs trials one at a time in a thread, and is polled for events."""

from __future__ import annotations

import sys
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Event as Flag
from threading import Thread
from typing import Protocol

from hiri_search.study.dispatch.task import Heartbeat, Report, TrialTask
from hiri_search.study.ledger.events import EpochEnded, TrialEvent

_POLL_SECONDS = 1.0  # longest time that `poll` waits for an event
_STACK_FRAMES = 8  # innermost frames of a trial that hangs


class TrialFunction(Protocol):
    """Runs one trial and reports its events."""

    def __call__(self, task: TrialTask, report: Report, heartbeat: Heartbeat, *, shared_gpu: bool) -> None: ...


@dataclass(frozen=True)
class WorkerReport:
    """Events of a worker since the last poll, and its state."""

    events: tuple[TrialEvent, ...]
    running: bool  # a trial is running
    seconds_silent: float  # since the last heartbeat
    node: str  # node and GPUs of the worker


class TrialInterrupted(BaseException):
    """Raised after an epoch, in the thread of a trial that stops for a shutdown."""


class Worker:
    """Runs a trial in a thread, so that the worker can be polled during the trial."""

    def __init__(self, trial_function: TrialFunction, *, shared_gpu: bool = False) -> None:
        self._trial_function, self._shared_gpu = trial_function, shared_gpu
        self._events: SimpleQueue[TrialEvent | None] = SimpleQueue()  # None: the thread of the trial has ended
        self._running = False
        self._stopping = Flag()
        self._thread: Thread | None = None
        self._last_heartbeat = time.monotonic()

    def start(self, task: TrialTask) -> WorkerReport:
        """Start a trial; an earlier one must have ended. The report shows that the worker is alive."""
        self._heartbeat()
        self._running = True
        self._thread = Thread(target=self._run, args=[task], name="trial", daemon=True)
        self._thread.start()
        return WorkerReport((), running=True, seconds_silent=0.0, node=self._place())

    def poll(self) -> WorkerReport:
        """Return all new events; without any, wait up to a second for one."""
        entries = []
        with suppress(Empty):
            entries.append(self._events.get(timeout=_POLL_SECONDS if self._running else 0))
            while True:
                entries.append(self._events.get_nowait())
        self._running &= None not in entries
        events = tuple(event for event in entries if event is not None)
        return WorkerReport(events, self._running, time.monotonic() - self._last_heartbeat, self._place())

    def _place(self) -> str:
        return ""

    def stop(self) -> None:
        """Stop the trial after the running epoch."""
        self._stopping.set()

    def stack(self) -> str:
        """Return the innermost stack frames of the trial's thread."""
        frame = sys._current_frames().get(self._thread.ident or 0) if self._thread else None
        return "".join(traceback.format_stack(frame)[-_STACK_FRAMES:]) if frame else ""

    def _run(self, task: TrialTask) -> None:
        shared_gpu = self._shared_gpu and not task.alone
        try:
            with suppress(TrialInterrupted):
                self._trial_function(task, self._report, self._heartbeat, shared_gpu=shared_gpu)
        finally:
            self._events.put(None)

    def _report(self, event: TrialEvent) -> None:
        self._heartbeat()
        self._events.put(event)
        if isinstance(event, EpochEnded) and self._stopping.is_set():
            raise TrialInterrupted

    def _heartbeat(self) -> None:
        self._last_heartbeat = time.monotonic()
