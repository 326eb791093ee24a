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

LISTENING = 1.0  # seconds that a question waits for something to have happened
STACK = 8  # innermost calls that are shown of a task that hangs


class TrialFunction(Protocol):
    """What is done with a task."""

    def __call__(self, task: TrialTask, tell: Report, beat: Heartbeat, *, beside_others: bool) -> None: ...


@dataclass(frozen=True)
class WorkerReport:
    """What happened since the last question."""

    events: tuple[TrialEvent, ...]
    epochs_running: bool
    seconds_silent: float  # since the last sign of life of the task
    place: str  # the node and the cards that the hand is on


class TrialInterrupted(BaseException):
    """Raised behind an epoch, in the thread of a training that is to go on another time."""


class Worker:
    """Does the work of tasks in a thread, so that it can be asked meanwhile."""

    def __init__(self, do: TrialFunction, *, beside_others: bool = False) -> None:
        self._do, self._beside_others = do, beside_others
        self._told: SimpleQueue[TrialEvent | None] = SimpleQueue()  # None: the task has ended, one way or another
        self._at_work = False
        self._leaving = Flag()
        self._thread: Thread | None = None
        self._last_beat = time.monotonic()

    def start(self, task: TrialTask) -> WorkerReport:
        """Take up a task; the one before has ended. The answer is a sign of life."""
        self._beat()
        self._at_work = True
        self._thread = Thread(target=self._work, args=[task], name="trial", daemon=True)
        self._thread.start()
        return WorkerReport((), epochs_running=True, seconds_silent=0.0, place=self._place())

    def poll(self) -> WorkerReport:
        """Waits a moment where nothing has happened."""
        found = []
        with suppress(Empty):
            found.append(self._told.get(timeout=LISTENING if self._at_work else 0))
            while True:
                found.append(self._told.get_nowait())
        self._at_work &= None not in found
        events = tuple(event for event in found if event is not None)
        return WorkerReport(events, self._at_work, time.monotonic() - self._last_beat, self._place())

    def _place(self) -> str:
        return ""

    def stop(self) -> None:
        """Stop behind the epoch that is being trained."""
        self._leaving.set()

    def stack(self) -> str:
        """Where the thread of the task is."""
        frame = sys._current_frames().get(self._thread.ident or 0) if self._thread else None
        return "".join(traceback.format_stack(frame)[-STACK:]) if frame else ""

    def _work(self, task: TrialTask) -> None:
        try:
            with suppress(TrialInterrupted):
                self._do(task, self._tell, self._beat, beside_others=self._beside_others and not task.alone)
        finally:
            self._told.put(None)

    def _tell(self, event: TrialEvent) -> None:
        self._beat()
        self._told.put(event)
        if isinstance(event, EpochEnded) and self._leaving.is_set():
            raise TrialInterrupted

    def _beat(self) -> None:
        self._last_beat = time.monotonic()
