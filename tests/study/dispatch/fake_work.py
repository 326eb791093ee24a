"""What hands do in tests, in place of trainings; in a module of its own, so that processes of Ray find it."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from hiri_search.study.dispatch.task import Heartbeat, Report, TrialTask, Wait
from hiri_search.study.ledger.events import Event
from hiri_search.training.job import DataSource, Job, PreparedData
from hiri_search.training.recipe import Recipe

HANDS = 4  # of two cards, two on each


class Listed:
    """So many tasks; whoever is lost or crowded comes again."""

    def __init__(self, home: Path, count: int) -> None:
        job = Job("hr(8 e=4)", 32, 4, 0, Recipe(), DataSource())
        prepared = PreparedData(home, ("a", "b"), 1, 1)
        self.tasks = [TrialTask(number, job, prepared, home / "last.pt") for number in range(count)]
        self.left = list(self.tasks)
        self.events: list[Event] = []

    def next(self) -> TrialTask | Wait | None:
        return self.left.pop(0) if self.left else None

    def on_event(self, event: Event) -> None:
        self.events.append(event)
        if event["event"] in ("lost", "crowded"):
            self.left.append(replace(self.tasks[event["trial"]], alone=event["event"] == "crowded"))

    def most_memory(self) -> tuple[Job, PreparedData]:
        raise NotImplementedError

    def told(self, name: str) -> list[Event]:
        return [event for event in self.events if event["event"] == name]


def plain(task: TrialTask, tell: Report, beat: Heartbeat, *, beside_others: bool) -> None:
    say(task, tell, "began", device=f"{os.getpid()}")
    say(task, tell, "finished", curve=[])


def dies_once(task: TrialTask, tell: Report, beat: Heartbeat, *, beside_others: bool) -> None:
    if task.trial == 1 and first_time(task):
        time.sleep(1)
        os._exit(1)
    plain(task, tell, beat, beside_others=beside_others)


def hangs_once(task: TrialTask, tell: Report, beat: Heartbeat, *, beside_others: bool) -> None:
    if task.trial == 1 and first_time(task):
        waits_for_ever()
    plain(task, tell, beat, beside_others=beside_others)


def waits_for_ever() -> None:
    while True:
        time.sleep(0.1)


def slow_steps(task: TrialTask, tell: Report, beat: Heartbeat, *, beside_others: bool) -> None:
    """Longer than any timeout in all, but each step is a sign of life."""
    for _ in range(30):
        time.sleep(0.1)
        beat()
    plain(task, tell, beat, beside_others=beside_others)


def epochs(task: TrialTask, tell: Report, beat: Heartbeat, *, beside_others: bool) -> None:
    for number in range(1, 101):
        time.sleep(0.1)
        say(task, tell, "epoch", epoch=number)
    say(task, tell, "finished", curve=[])


def needs_a_card(task: TrialTask, tell: Report, beat: Heartbeat, *, beside_others: bool) -> None:
    """Two of the tasks do not fit beside others; each writes down who was there, the first once all hands are up."""
    with (task.checkpoint.parent / "log").open("a") as log:
        log.write(f"begin {task.trial} {os.environ.get('CUDA_VISIBLE_DEVICES')} {task.alone}\n")
    time.sleep(0.3)
    end = time.monotonic() + 60
    while (task.checkpoint.parent / "log").read_text().count("begin") < HANDS and time.monotonic() < end:
        time.sleep(0.05)
    with (task.checkpoint.parent / "log").open("a") as log:
        log.write(f"end {task.trial} {os.environ.get('CUDA_VISIBLE_DEVICES')} {task.alone}\n")
    if task.trial in (2, 3) and beside_others:
        say(task, tell, "crowded", reason="too large")
    else:
        plain(task, tell, beat, beside_others=beside_others)


def ends_without_a_word(task: TrialTask, tell: Report, beat: Heartbeat, *, beside_others: bool) -> None:
    if task.trial == 1 and first_time(task):
        return
    plain(task, tell, beat, beside_others=beside_others)


def say(task: TrialTask, tell: Report, event: str, **facts: Any) -> None:
    tell({"event": event, "trial": task.trial, **facts})


def first_time(task: TrialTask) -> bool:
    flag = task.checkpoint.parent / f"tried {task.trial}"
    if flag.exists():
        return False
    Path(flag).touch()
    return True


def where(task: TrialTask, tell: Report, beat: Heartbeat, *, beside_others: bool) -> None:
    """Tells whose Ray this is."""
    import ray

    say(task, tell, "began", device=ray.get_runtime_context().gcs_address)
    say(task, tell, "finished", curve=[])


def traced(task: TrialTask, tell: Report, beat: Heartbeat, *, beside_others: bool) -> None:
    """A real training; each epoch that is trained to its end, and not read from a checkpoint, leaves a line."""
    curve = task.checkpoint.with_name("curve.csv")
    known = len(curve.read_text().splitlines()) - 1 if curve.exists() else 0

    def note(event: Event) -> None:
        if event["event"] == "epoch" and event["epoch"] > known:
            with (task.checkpoint.parents[2] / "trace").open("a") as trace:
                trace.write(f"{task.trial} {event['epoch']}\n")
        tell(event)

    from hiri_search.study.dispatch.run_trial import run_trial  # slow, and the others do not need it

    run_trial(task, note, beat, beside_others=beside_others)
