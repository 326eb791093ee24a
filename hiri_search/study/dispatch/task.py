"""TrialTask and the TrialSource protocol between scheduler and executors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Protocol

from hiri_search.study.ledger.events import Event
from hiri_search.system.storage import Storage
from hiri_search.training.job import Job, PreparedData

Report = Callable[[Event], None]
Heartbeat = Callable[[], None]

# Whose fault it is that a trial was lost.
PROCESS_FAULT, ENVIRONMENT_FAULT = "process", "surroundings"


@dataclass(frozen=True)
class TrialTask:
    """A trial to be trained."""

    trial: int
    job: Job
    prepared: PreparedData
    checkpoint: Path
    until: int | None = None  # the epoch behind which it pauses; None: trained to the end
    zero_cost: tuple[str, ...] = ()  # zero-cost scores that are wanted before it is trained
    alone: bool = False  # it did not fit on a device that it shared
    storage: Storage | None = None  # that holds a copy of the checkpoint


class Wait(Enum):
    """What is next depends on trials that are at work."""

    WAIT = "later"


class TrialSource(Protocol):
    """Gives out tasks and hears of them; lives in the process that holds the ledger."""

    def next(self) -> TrialTask | Wait | None:
        """The next task; None when all have been given out. Never `LATER` where no task is at work.

        After None there may be more, when one that was at work is lost.
        """

    def most_memory(self) -> tuple[Job, PreparedData]:
        """A training that asks for about as much memory as any."""

    def on_event(self, event: Event) -> None:
        """Scores, an epoch, or the end, of a trial: {"event": ..., "trial": ..., ...}."""
