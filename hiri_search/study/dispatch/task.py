"""TrialTask and the TrialSource protocol between scheduler and executors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Protocol

from hiri_search.system.storage import Storage
from hiri_search.training.job import Job, PreparedData

Event = dict[str, Any]
Tell = Callable[[Event], None]
Beat = Callable[[], None]

# Whose fault it is that a trial was lost.
PROCESS, SURROUNDINGS = "process", "surroundings"


@dataclass(frozen=True)
class Task:
    """A trial to be trained."""

    trial: int
    job: Job
    prepared: PreparedData
    checkpoint: Path
    until: int | None = None  # the epoch behind which it pauses; None: trained to the end
    proxies: tuple[str, ...] = ()  # zero-cost scores that are wanted before it is trained
    alone: bool = False  # it did not fit on a device that it shared
    storage: Storage | None = None  # that holds a copy of the checkpoint


class Later(Enum):
    """What is next depends on trials that are at work."""

    LATER = "later"


class Feed(Protocol):
    """Gives out tasks and hears of them; lives in the process that holds the ledger."""

    def next(self) -> Task | Later | None:
        """The next task; None when all have been given out. Never `LATER` where no task is at work.

        After None there may be more, when one that was at work is lost.
        """

    def heaviest(self) -> tuple[Job, PreparedData]:
        """A training that asks for about as much memory as any."""

    def heard(self, event: Event) -> None:
        """Scores, an epoch, or the end, of a trial: {"event": ..., "trial": ..., ...}."""
