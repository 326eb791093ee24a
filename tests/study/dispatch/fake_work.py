"""Trial functions for tests in place of trainings; a module of its own, so that Ray's workers can import it."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from hiri_search.study.dispatch.task import Heartbeat, Report, StudyFiles, TrialTask, Wait
from hiri_search.study.ledger.events import (
    EpochEnded,
    Event,
    TrialEvent,
    TrialFinished,
    TrialLost,
    TrialOutOfMemory,
)
from hiri_search.study.ledger.layout import CHECKPOINTS
from hiri_search.study.ledger.ledger import of_kind
from hiri_search.training.job import DataSource, Epoch, Job, PreparedData
from hiri_search.training.recipe import Recipe
from tests.study.records import epoch

Kind = TypeVar("Kind", bound=Event)
WORKERS = 4  # on two GPUs, two on each


class ListedTrials:
    """A source of a number of tasks; a trial that was lost or out of memory comes again."""

    def __init__(self, home: Path, count: int, *, epochs: int = 1) -> None:
        (home / CHECKPOINTS).mkdir(exist_ok=True)
        job = Job("hr(8 e=4)", 32, 4, 0, Recipe(epochs=epochs, warmup_epochs=0), DataSource())
        self.files = StudyFiles({32: PreparedData(home, ("a", "b"), 1, 1)}, home)
        self.tasks = [TrialTask(number, job, self.files, f"training{number}") for number in range(count)]
        self.left = list(self.tasks)
        self.events: list[TrialEvent] = []

    def next(self) -> TrialTask | Wait | None:
        return self.left.pop(0) if self.left else None

    def on_event(self, event: TrialEvent) -> None:
        self.events.append(event)
        if isinstance(event, TrialLost | TrialOutOfMemory):
            assert len(self.events) < 1000, "the same trial is lost again and again"
            self.left.append(replace(self.tasks[event.trial], alone=isinstance(event, TrialOutOfMemory)))

    def curve(self, trial: int) -> tuple[Epoch, ...]:
        return tuple(event.result for event in self.reported(EpochEnded) if event.trial == trial)

    def most_memory(self) -> tuple[Job, PreparedData]:
        raise NotImplementedError

    def reported(self, kind: type[Kind]) -> list[Kind]:
        return of_kind(self.events, kind)


def plain(task: TrialTask, report: Report, heartbeat: Heartbeat, *, shared_gpu: bool) -> None:
    report(EpochEnded(trial=task.trial, result=epoch(1, loss=os.getpid())))
    report(TrialFinished(trial=task.trial, curve=()))


def dies_once(task: TrialTask, report: Report, heartbeat: Heartbeat, *, shared_gpu: bool) -> None:
    if task.trial == 1 and first_time(task):
        time.sleep(1)
        os._exit(1)
    plain(task, report, heartbeat, shared_gpu=shared_gpu)


def hangs_once(task: TrialTask, report: Report, heartbeat: Heartbeat, *, shared_gpu: bool) -> None:
    if task.trial == 1 and first_time(task):
        waits_for_ever()
    plain(task, report, heartbeat, shared_gpu=shared_gpu)


def waits_for_ever() -> None:
    while True:
        time.sleep(0.1)


def slow_steps(task: TrialTask, report: Report, heartbeat: Heartbeat, *, shared_gpu: bool) -> None:
    """Run longer than the timeout, with a heartbeat at each step."""
    for _ in range(30):
        time.sleep(0.1)
        heartbeat()
    plain(task, report, heartbeat, shared_gpu=shared_gpu)


def epochs(task: TrialTask, report: Report, heartbeat: Heartbeat, *, shared_gpu: bool) -> None:
    for number in range(1, 101):
        time.sleep(0.1)
        report(EpochEnded(trial=task.trial, result=epoch(number)))
    report(TrialFinished(trial=task.trial, curve=()))


def needs_a_gpu(task: TrialTask, report: Report, heartbeat: Heartbeat, *, shared_gpu: bool) -> None:
    """Two of the tasks do not fit on a shared GPU; each logs its GPU, the first ones wait until all workers run."""
    with (task.files.folder / "log").open("a") as log:
        log.write(f"begin {task.trial} {os.environ.get('CUDA_VISIBLE_DEVICES')} {task.alone}\n")
    time.sleep(0.3)
    end = time.monotonic() + 60
    while (task.files.folder / "log").read_text().count("begin") < WORKERS and time.monotonic() < end:
        time.sleep(0.05)
    with (task.files.folder / "log").open("a") as log:
        log.write(f"end {task.trial} {os.environ.get('CUDA_VISIBLE_DEVICES')} {task.alone}\n")
    if task.trial in (2, 3) and shared_gpu:
        report(TrialOutOfMemory(trial=task.trial, reason="too large"))
    else:
        plain(task, report, heartbeat, shared_gpu=shared_gpu)


def returns_without_end(task: TrialTask, report: Report, heartbeat: Heartbeat, *, shared_gpu: bool) -> None:
    if task.trial == 1 and first_time(task):
        return
    plain(task, report, heartbeat, shared_gpu=shared_gpu)


def first_time(task: TrialTask) -> bool:
    flag = task.files.folder / f"tried {task.trial}"
    if flag.exists():
        return False
    Path(flag).touch()
    return True


def ray_address(task: TrialTask, report: Report, heartbeat: Heartbeat, *, shared_gpu: bool) -> None:
    """Write down the address of the Ray that runs the trial."""
    import ray

    (task.files.folder / "address").write_text(ray.get_runtime_context().gcs_address)
    plain(task, report, heartbeat, shared_gpu=shared_gpu)


def traced(task: TrialTask, report: Report, heartbeat: Heartbeat, *, shared_gpu: bool) -> None:
    """Train; every epoch that is trained, and not read from a checkpoint, adds a line to a trace file."""
    curve = task.checkpoint.with_name("curve.csv")
    trained = len(curve.read_text().splitlines()) - 1 if curve.exists() else 0

    def trace(event: TrialEvent) -> None:
        if isinstance(event, EpochEnded) and event.result.epoch > trained:
            with (task.files.folder / "trace").open("a") as file:
                file.write(f"{task.trial} {event.result.epoch}\n")
        report(event)

    from hiri_search.study.dispatch.run_trial import run_trial  # slow import

    run_trial(task, trace, heartbeat, shared_gpu=shared_gpu)


def ends_a_second_later(task: TrialTask, report: Report, heartbeat: Heartbeat, *, shared_gpu: bool) -> None:
    """Train, and rest for a second: event files of TensorBoard are named by the second in which their stint began."""
    from hiri_search.study.dispatch.run_trial import run_trial  # slow import

    run_trial(task, report, heartbeat, shared_gpu=shared_gpu)
    time.sleep(1.1)
