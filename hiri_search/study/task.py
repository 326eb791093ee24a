"""One trial's work, wherever it is done, and what is heard of it."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from hiri_search.training.data import Prepared
from hiri_search.training.job import Job
from hiri_search.training.trial import train

Event = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """A trial to be trained."""

    trial: int
    job: Job
    prepared: Prepared
    checkpoint: Path


class Feed(Protocol):
    """Gives out tasks and hears of them; lives in the process that holds the ledger."""

    def next(self) -> Task | None:
        """The next task; None when all have been given out."""

    def heard(self, event: Event) -> None:
        """An epoch, or the end, of a trial: {"event": ..., "trial": ..., ...}."""


def work(task: Task, tell: Callable[[Event], None]) -> None:
    """Train, telling of each epoch and of the end, good or bad."""

    def say(event: str, **facts: Any) -> None:
        tell({"event": event, "trial": task.trial, **facts})

    try:
        curve = train(task.job, task.prepared, task.checkpoint, report=lambda epoch: say("epoch", **asdict(epoch)))
    except Exception as error:  # the trial's boundary: whatever happens in here ends this trial and no other
        say("failed", reason=f"{type(error).__name__}: {error}", traceback=traceback.format_exc(limit=-4))
    else:
        say("finished", curve=[asdict(epoch) for epoch in curve])
