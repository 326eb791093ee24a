"""TrialTask and the TrialSource protocol between scheduler and executors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Protocol

from hiri_search.study.ledger.events import TrialEvent
from hiri_search.system.storage import Storage
from hiri_search.training.job import Job, PreparedData

Report = Callable[[TrialEvent], None]
Heartbeat = Callable[[], None]


@dataclass(frozen=True)
class TrialTask:
    """One stint of a trial: from its checkpoint, or its beginning, to `until` or its end."""

    trial: int
    job: Job
    prepared: PreparedData
    checkpoint: Path
    until: int | None = None  # epoch after which the trial pauses; None: trained to the end
    zero_cost: tuple[str, ...] = ()  # names of zero-cost scores to compute before the training
    alone: bool = False  # needs a GPU for itself: out of memory on a shared one
    storage: Storage | None = None  # holds a copy of the checkpoint


class Wait(Enum):
    """The next task depends on trials that are running."""

    WAIT = "later"


class TrialSource(Protocol):
    """Gives out tasks and receives their events, in the process that writes the ledger."""

    def next(self) -> TrialTask | Wait | None:
        """Return the next task; None if there is none until a trial is lost. WAIT only while a task is running."""

    def most_memory(self) -> tuple[Job, PreparedData]:
        """Return the training that needs about the most memory."""

    def on_event(self, event: TrialEvent) -> None:
        """Record an event of a trial."""
