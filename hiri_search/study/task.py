"""One trial's work, wherever it is done, and what is heard of it."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Protocol

from hiri_search.study.kept import kept
from hiri_search.training.data import Prepared
from hiri_search.training.device import found
from hiri_search.training.elsewhere import at_hand
from hiri_search.training.job import Epoch, Job
from hiri_search.training.proxies import job_scores
from hiri_search.training.state import Crowded
from hiri_search.training.storage import Storage
from hiri_search.training.trial import train

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
    prepared: Prepared
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

    def heaviest(self) -> tuple[Job, Prepared]:
        """A training that asks for about as much memory as any."""

    def heard(self, event: Event) -> None:
        """Scores, an epoch, or the end, of a trial: {"event": ..., "trial": ..., ...}."""


def work(task: Task, tell: Tell, beat: Beat = lambda: None, *, beside_others: bool = False) -> None:
    """Train, telling of each epoch and of the end, good or bad, of the pause, or of what it was lost to."""

    def say(event: str, **facts: Any) -> None:
        tell({"event": event, "trial": task.trial, **facts})

    say("began", device=found())
    try:
        prepared = at_hand(task.prepared, task.job, beat)
        if task.proxies:
            say("scored", scores=job_scores(task.job, prepared, task.proxies))
        with kept(task.checkpoint, task.storage) as checkpoint:

            def report(epoch: Epoch) -> None:
                checkpoint.bring_up(epoch.epoch)
                say("epoch", **asdict(epoch))

            curve = train(
                task.job,
                prepared,
                checkpoint.here,
                until=task.until,
                report=report,
                beat=beat,
                beside_others=beside_others,
            )
    except Crowded as error:
        say("crowded", reason=str(error))
    except Exception as error:  # the trial's boundary: whatever happens in here ends this trial and no other
        reason = f"{type(error).__name__}: {error}"
        where = traceback.format_exc(limit=-4)
        if isinstance(error, OSError):  # a disk, a mount, a network: never a property of what is trained
            say("lost", fault=SURROUNDINGS, reason=reason, traceback=where)
        else:
            say("failed", reason=reason, traceback=where)
    else:
        done = len(curve) == task.job.recipe.epochs
        say("finished" if done else "paused", curve=[asdict(epoch) for epoch in curve])
