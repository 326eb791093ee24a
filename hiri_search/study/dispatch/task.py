"""TrialTask, and the protocol between the scheduler of a study and the dispatchers that run its trials."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias

from hiri_search.study.ledger.events import TrialEvent
from hiri_search.study.ledger.layout import CHECKPOINTS, LAST_CHECKPOINT
from hiri_search.system.storage import Storage
from hiri_search.training.job import Epoch, Job, PreparedData
from hiri_search.user_code import UserCode

if TYPE_CHECKING:
    from hiri_search.training.parallel.ranks import Ranks

Report: TypeAlias = Callable[[TrialEvent], None]
Heartbeat: TypeAlias = Callable[[], None]


@dataclass(frozen=True)
class StudyFiles:
    """Images, results folder and storage of a run, the same for all its trials."""

    prepared: Mapping[int, PreparedData]  # by side
    folder: Path  # of the results
    storage: Storage | None = None  # holds copies of the checkpoints
    code: UserCode = field(default_factory=UserCode)  # of the user, which each worker imports


@dataclass(frozen=True)
class TrialTask:
    """One stint of a trial: from its checkpoint, or its beginning, to `until` or its end."""

    trial: int
    job: Job
    files: StudyFiles
    training: str  # digest that names the folder of the checkpoint
    epochs_done: int = 0  # the ledger has them; they are not reported again
    until: int | None = None  # epoch after which the trial pauses; None: trained to the end
    zero_cost: tuple[str, ...] = ()  # names of zero-cost scores to compute before the training
    scores: Mapping[str, float | None] = field(default_factory=dict)  # zero-cost scores that the ledger has
    on_epoch: tuple[str, ...] = ()  # functions of the user (module:name) that are called after each epoch
    alone: bool = False  # needs a GPU for itself: out of memory on a shared one

    @property
    def prepared(self) -> PreparedData:
        """The images at the side of the training."""
        return self.files.prepared[self.job.side]

    @property
    def checkpoint(self) -> Path:
        """The path of the checkpoint in the results folder."""
        return self.files.folder / CHECKPOINTS / self.training / LAST_CHECKPOINT

    @property
    def last_epoch(self) -> int:
        """The epoch after which the stint ends."""
        return self.until or self.job.recipe.epochs


class RankDied(RuntimeError):
    """Another process of a trial has died: the trial goes on from its checkpoint."""


class Wait(Enum):
    """The next task depends on trials that are running."""

    WAIT = "later"


class TrialSource(Protocol):
    """Gives out tasks and receives their events, in the process that writes the ledger."""

    files: StudyFiles

    def next(self) -> TrialTask | Wait | None:
        """Return the next task; None if there is none until a trial is lost. WAIT only while a task is running."""

    def most_memory(self) -> tuple[Job, PreparedData]:
        """Return the training that needs about the most memory."""

    def on_event(self, event: TrialEvent) -> None:
        """Record an event of a trial."""

    def curve(self, trial: int) -> tuple[Epoch, ...]:
        """Return the recorded epochs of a trial."""


class TrialFunction(Protocol):
    """Runs one stint of a trial and reports its events; the last one is a `StintEnded`."""

    def __call__(self, task: TrialTask, report: Report, heartbeat: Heartbeat, *, shared_gpu: bool) -> None: ...


Together: TypeAlias = "Callable[[TrialTask, Heartbeat], AbstractContextManager[Ranks]]"
"""Starts the other processes of a trial for the block, and gives this one its place among them."""

Dispatcher: TypeAlias = Callable[[TrialSource], None]
"""Runs all tasks of a source, and passes every event to it."""
