"""Worker: Ray Tune runs this function in a process of its own for each task, and each epoch is one report."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from hiri_search.study.dispatch.task import StudyFiles, TrialFunction
from hiri_search.study.dispatch.trial_config import report_of, task_of
from hiri_search.study.dispatch.watchdog import STACK_FILE, take_stack, watched
from hiri_search.study.ledger.events import (
    EpochEnded,
    TrialEvent,
    TrialFailed,
    TrialLost,
    TrialOutOfMemory,
    TrialScored,
)
from hiri_search.system.concurrency import repeat_in_background
from hiri_search.system.hardware import describe_device
from hiri_search.training.job import DataSource
from hiri_search.training.parallel.ranks import backend

_WAITING_SECONDS = 1.0  # between heartbeats while a worker waits for the driver, which is no hang


class StintFailed(Exception):
    """A stint that did not reach its last epoch, with the events that say why."""

    def __init__(self, events: tuple[TrialEvent, ...]) -> None:
        super().__init__(events)
        self.events = events


def run_task(
    config: Mapping[str, Any],
    trial_function: TrialFunction,
    data: DataSource,
    files: StudyFiles,
    *,
    timeout: float,
    shares_gpu: bool,
) -> None:
    """Run the task of a config and report its epochs to Tune.

    The driver knows the rest of a stint that went well: when it began, and that its last epoch was its end. Raises
    StintFailed where it did not. Tune holds the worker at each report until the driver has recorded it.
    """
    from ray import tune

    task = task_of(config, data, files)
    scores: Mapping[str, float | None] = {}
    failure: tuple[TrialEvent, ...] = ()

    def report(event: TrialEvent) -> None:
        nonlocal scores, failure
        match event:
            case EpochEnded():
                with repeat_in_background(watchdog.heartbeat, every=_WAITING_SECONDS):
                    tune.report(report_of(event.result, scores or task.scores, test=task.prepared.test > 0))
            case TrialScored():
                scores = event.scores
            case TrialFailed() | TrialLost() | TrialOutOfMemory():
                scored = TrialScored(trial=task.trial, scores=dict(scores))
                failure = (scored, event) if scores else (event,)

    with watched(timeout, task.checkpoint.with_name(STACK_FILE)) as watchdog:
        _make_room(task.checkpoint)
        trial_function(task, report, watchdog.heartbeat, shared_gpu=shares_gpu and not task.alone)
    if failure:
        raise StintFailed(failure)


def _make_room(checkpoint: Path) -> None:
    """Make the folder of a checkpoint, and remove an old report of a watchdog from it."""
    with suppress(OSError):  # no results folder on this machine, or it is away for a moment, as the training will tell
        checkpoint.parent.mkdir(exist_ok=True)
        take_stack(checkpoint)


def device(processes: int, trainable: object) -> str:
    """Return the device of a trial's worker and its processes; Tune's actors run a function of themselves."""
    if processes == 1:
        return describe_device()
    return f"{processes} processes by {backend()}, each with {describe_device()}"
