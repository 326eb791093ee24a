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
    until: int | None = None  # the epoch after which it pauses; None: trained to the end
    zero_cost: tuple[str, ...] = ()  # zero-cost scores to compute before the training
    alone: bool = False  # it did not fit on a GPU that it shared
    storage: Storage | None = None  # holds a copy of the checkpoint


class Wait(Enum):
    """Answer of a source whose next task depends on trials that are running."""

    WAIT = "wait"


class TrialSource(Protocol):
    """Hands out tasks and receives their events; lives in the process that holds the ledger."""

    def next(self) -> TrialTask | Wait | None:
        """Return the next task; None when all have been handed out; never WAIT while no task is running.

        After None there may be more tasks, when a running one is lost.
        """

    def most_memory(self) -> tuple[Job, PreparedData]:
        """Return the training of the study that needs the most memory, by estimate."""

    def on_event(self, event: TrialEvent) -> None:
        """Record an event of a trial."""
