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
from hiri_search.study.ledger.events import STINT_ENDS, Fault, TrialLost
from hiri_search.system.shutdown import Shutdown

TICK = 5.0  # seconds between looks at who has been silent for long
STACK_SECONDS = 5.0  # that a hand which hangs has to say where
FALSE_STARTS = 3  # hands in a row that died before they said a word, when none has ever spoken
RAISED = re.compile(r"[\w.]*(Error|Exception): ")
COLOUR = re.compile(r"\x1b\[\d+m")
INSTALL = "install hiri-search and what it needs on the nodes, see docs/cluster.md"


@dataclass(eq=False)
class WorkerSlot:
    """A hand, and what it does."""

    hand: Any  # a Ray actor, see `Hand`
    task: TrialTask | None
    ended: bool = False  # the task has said so
    question: Any = None  # the open one
    asked: float = 0.0  # when
    place: str | None = None  # its node and cards; None before it has said a word
    alone: bool = False  # on a card

    def ask(self) -> None:
        self.question, self.asked = self.hand.poll.remote(), time.monotonic()


@dataclass(frozen=True)
class WorkerFactory:
    """Where hands come from."""

    start: Callable[[bool], Any]  # a new hand; true: with a card of its own
    room: Callable[[], int]  # how many fit
    per_gpu: int = 1  # of these on one card
    look: Callable[[], None] = lambda: None  # after a hand that does not come up; StudyError where none ever will


class WorkerPool:
    """Takes tasks from a feed until there are no more, and tells it what became of them."""

    def __init__(self, feed: TrialSource, yard: WorkerFactory, leaving: Shutdown, *, timeout: float) -> None:
        self.feed, self.yard, self.leaving, self.timeout = feed, yard, leaving, timeout
        self.seats: list[WorkerSlot] = []
        self.crowded: deque[TrialTask] = deque()  # that wait for a card
        self.cleared: str | None = None  # the place whose card is to be free for them
        self.came_up = False  # one hand at least
        self.false_starts = 0

    def run(self, first: TrialTask) -> None:
        """From the first task to the last; StudyError where no process can be started."""
        self._seat(first, self._hire(first))
        self._fill()
        told = False
        while self._busy():
            moved = self._listen()
            if self.leaving.requested and not told:
                told = True
                self._leave()
            elif moved and not self.leaving.requested:
                self._fill()

    def _leave(self) -> None:
        """Ask those at work to stop behind their epochs; a hand that has not come up yet has none to finish."""
        self._retire(*(seat for seat in self._busy() if seat.place is None))
        for seat in self._busy():
            seat.hand.stop.remote()

    # ---- who does what

    def _fill(self) -> None:
        """Give out tasks while there are hands, or room for more; those that have nothing to do go."""
        self._clear_a_card()
        while seat := self._idle() or self._may_hire():
            task = self.feed.next()
            if not isinstance(task, TrialTask):
                if task is None:
                    self._retire(*(seat for seat in self.seats if not seat.task))
                break
            if task.alone and self.yard.per_gpu > 1:
                self.crowded.append(task)
                self._clear_a_card()
            else:
                self._seat(task, seat if isinstance(seat, WorkerSlot) else self._hire(task))

    def _idle(self) -> WorkerSlot | None:
        return next((seat for seat in self._sharing() if not seat.task), None)

    def _sharing(self) -> list[WorkerSlot]:
        """Those whose card is to stay shared."""
        return [seat for seat in self.seats if not seat.alone and (not self.cleared or seat.place != self.cleared)]

    def _may_hire(self) -> bool:
        if self.cleared:
            return len(self._sharing()) < self.yard.room() - self.yard.per_gpu
        return len(self._sharing()) < max(1, self.yard.room())

    def _hire(self, task: TrialTask, *, alone: bool = False) -> WorkerSlot:
        self.seats.append(WorkerSlot(self.yard.start(alone), task, alone=alone))
        return self.seats[-1]

    def _seat(self, task: TrialTask, seat: WorkerSlot) -> None:
        seat.task, seat.ended = task, False
        seat.question, seat.asked = seat.hand.start.remote(task), time.monotonic()

    def _clear_a_card(self) -> None:
        """For a task that did not fit beside others: wait until those on one card have ended, then it has the card."""
        if not self.crowded:
            self._retire(*(seat for seat in self.seats if seat.alone and not seat.task))
            if not any(seat.alone for seat in self.seats):
                self.cleared = None
            return
        if self.cleared is None:
            self.cleared = next((seat.place for seat in self.seats if seat.place), None)
        there = [seat for seat in self.seats if seat.place == self.cleared and not seat.alone]
        self._retire(*(seat for seat in there if not seat.task))
        alone = next((seat for seat in self.seats if seat.alone), None)
        if alone and not alone.task:
            self._seat(self.crowded.popleft(), alone)
        elif not alone and all(not seat.task for seat in there):
            task = self.crowded.popleft()
            self._seat(task, self._hire(task, alone=True))

    def _retire(self, *seats: WorkerSlot) -> None:
        import ray

        for seat in seats:
            self.seats.remove(seat)
            ray.kill(seat.hand)

    def _busy(self) -> list[WorkerSlot]:
        return [seat for seat in self.seats if seat.task]

    # ---- what is heard

    def _listen(self) -> bool:
        """Whether something happened that makes room, or may."""
        import ray

        busy = self._busy()
        answered, _ = ray.wait([seat.question for seat in busy], timeout=TICK)
        moved = False
        for seat in busy:
            if seat.question in answered:
                moved |= self._answer(seat)
            elif seat.place is not None and time.monotonic() - seat.asked > self.timeout:
                self._lose(seat, f"its process gave no answer for {self.timeout:.0f} s")
                moved = True
        if not answered and any(seat.place is None for seat in busy):
            self.yard.look()
        return moved

    def _answer(self, seat: WorkerSlot) -> bool:
        import ray

        try:
            heard: WorkerReport = ray.get(seat.question)
        except ray.exceptions.RayActorError as error:
            self._lose(seat, _why(error))
            return True
        self.seats.append(self.seats.pop(self.seats.index(seat)))  # the others are listened to first
        self.came_up, seat.place = True, heard.place
        self._pass_on(seat, heard)
        if seat not in self.seats or not heard.epochs_running:
            return True
        seat.ask()
        return bool(heard.events)

    def _pass_on(self, seat: WorkerSlot, heard: WorkerReport) -> None:
        assert seat.task
        trial = seat.task.trial
        for event in heard.events:
            seat.ended |= isinstance(event, STINT_ENDS)
            self.feed.on_event(event)
        if heard.epochs_running and not seat.ended and heard.seconds_silent > self.timeout:
            self._lose(seat, f"no step for {heard.seconds_silent:.0f} s", stack=self._stack(seat))
        elif not heard.epochs_running:
            seat.task = None
            if not seat.ended and not self.leaving.requested:
                lost = TrialLost(trial=trial, fault="process", reason="its thread ended without reporting an end")
                self.feed.on_event(lost)

    def _stack(self, seat: WorkerSlot) -> str:
        """Where the hand is; nothing where it does not say."""
        import ray

        try:
            return str(ray.get(seat.hand.stack.remote(), timeout=STACK_SECONDS))
        except ray.exceptions.RayError:
            return ""

    def _lose(self, seat: WorkerSlot, reason: str, *, stack: str = "") -> None:
        assert seat.task
        self._retire(seat)
        self.false_starts += seat.place is None
        if not self.came_up and self.false_starts >= FALSE_STARTS:
            raise StudyError(f"no process for trials could be started: {reason}")
        fault: Fault = "environment" if seat.place is None else "process"
        self.feed.on_event(TrialLost(trial=seat.task.trial, fault=fault, reason=reason, traceback=stack))


def _why(error: Exception) -> str:
    """What Ray says of a dead actor, in a line."""
    lines = [COLOUR.sub("", line).strip() for line in str(error).splitlines() if line.strip()]
    if raised := [line for line in lines if RAISED.match(line)]:  # before it said a word
        return f"{raised[-1][:300]}{f'; {INSTALL}' if 'No module named' in raised[-1] else ''}"
    telling = [line for line in lines if "cause" in line.lower() or "detail" in line.lower() or "node" in line.lower()]
    return f"its process died: {(telling or lines or ['killed'])[-1][:300]}"
