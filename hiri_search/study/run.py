"""The life of a study: ask, train what the ledger lacks, write down what happens."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

from hiri_search.cost.counts import count
from hiri_search.cost.latency import measure
from hiri_search.language import parse_net
from hiri_search.study.config import Study, check_fits, differences, meaning, networks_of, stand_in
from hiri_search.study.errors import StudyError
from hiri_search.study.ledger import LEDGER, Ledger, Trial, locked, open_ledger, trials
from hiri_search.study.search import Candidate, Search, candidates
from hiri_search.study.task import Event, Feed, Task
from hiri_search.training.data import Prepared, check_augmentation, prepare
from hiri_search.training.device import found
from hiri_search.training.job import Job

PICTURES, CHECKPOINTS = "pictures", "checkpoints"
WAY_OUT = (
    "put it back, give this one another folder with --results, or begin anew with --fresh"
    " (the old folder is kept under another name)"
)
PACKAGES = ("torch", "timm", "fvcore", "ray", "optuna")


class Watcher(Protocol):
    """Looks on while a study runs."""

    def say(self, text: str) -> None:
        """Something the user should know."""

    def moved(self, trial: Trial) -> None:
        """A trial has begun, come to the end of an epoch, or ended."""


Executor = Callable[[Feed], None]


def run(
    study: Study,
    folder: Path,
    execute: Executor,
    watcher: Watcher,
    *,
    profile: str,
    retry_failed: bool = False,
) -> None:
    """Train what the ledger of `folder` lacks; everything finished is kept.

    StudyError where the folder is another process's or another study's; DataError where the pictures cannot be
    trained on. Both before anything is trained.
    """
    for candidate in candidates(study):
        check_fits(candidate.net, study)
    with open_ledger(folder) as ledger:
        _check_same(study, ledger, folder)
        check_augmentation(study.recipe, study.proxy.side)
        prepared = prepare(
            study.data,
            study.proxy.side,
            folder / PICTURES,
            classes=study.proxy.classes,
            batch=study.recipe.batch,
            say=watcher.say,
        )
        _check_same_pictures(study, ledger, prepared, folder)
        _write_start(study, ledger, prepared, profile)
        _time_networks(study, ledger, watcher)
        execute(StudyFeed(study, ledger, prepared, folder / CHECKPOINTS, watcher, retry_failed=retry_failed))


def move_aside(folder: Path) -> Path | None:
    """Rename a results folder, so that a fresh one can begin; its new name, or None where there was none."""
    if not (folder / LEDGER).exists():
        return None
    aside = folder.with_name(f"{folder.name}.{time.strftime('%Y-%m-%dT%H-%M-%S')}")
    with locked(folder):
        folder.rename(aside)
    return aside


def _check_same(study: Study, ledger: Ledger, folder: Path) -> None:
    begun = _begun(ledger)
    changed = differences(begun["meaning"], meaning(study)) if begun else []
    if changed:
        what = "\n  ".join(changed)
        raise StudyError(f"{folder} was begun with another study; what differs:\n  {what}\n{WAY_OUT}")


def _check_same_pictures(study: Study, ledger: Ledger, prepared: Prepared, folder: Path) -> None:
    begun = _begun(ledger)
    if begun and begun["pictures"]["key"] != prepared.folder.name:
        raise StudyError(f"the pictures of {study.data.source} have changed since {folder} was begun\n{WAY_OUT}")


def _begun(ledger: Ledger) -> Event | None:
    """What the ledger was begun with."""
    return next((event for event in ledger.events if event["event"] == "study"), None)


def _write_start(study: Study, ledger: Ledger, prepared: Prepared, profile: str) -> None:
    """What is needed to make the report from the ledger alone, and how the numbers were got."""
    rows = {name: row.model_dump(exclude={"spec"}) for name, row in (study.nets or {}).items()}
    pictures = {
        "key": prepared.folder.name,
        "train": prepared.train,
        "val": prepared.val,
        "classes": len(prepared.classes),
    }
    ledger.append(
        "study",
        meaning=meaning(study),
        title=study.title,
        table=study.table,
        rows=rows,
        file=study.model_dump(mode="json"),
        profile=profile,
        device=found(),
        pictures=pictures | {"skipped": list(prepared.skipped)},
        versions={"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
        time=time.time(),
    )


def _time_networks(study: Study, ledger: Ledger, watcher: Watcher) -> None:
    """Inference of an ablation's networks, on a machine that does nothing else yet."""
    known = {event["key"] for event in ledger.events if event["event"] == "timed"}
    nets = {net.key: net for net in networks_of(study).values() if net.key not in known}
    if study.latency is None or not nets:
        return
    watcher.say(f"timing inference of {len(nets)} networks at side {study.counted.side}")
    measured = measure(nets, study.counted.side, batch=study.latency.batch, repeats=study.latency.repeats)
    for key, latency in measured:
        ledger.append("timed", key=key, **asdict(latency))


class StudyFeed:
    """Gives out what the ledger lacks, and writes down what is heard."""

    def __init__(
        self,
        study: Study,
        ledger: Ledger,
        prepared: Prepared,
        checkpoints: Path,
        watcher: Watcher,
        *,
        retry_failed: bool,
    ) -> None:
        self.study, self.ledger, self.prepared = study, ledger, prepared
        self.checkpoints, self.watcher = checkpoints, watcher
        self.trials = {trial.number: trial for trial in trials(ledger.events)}
        for trial in self.trials.values():
            if retry_failed and trial.state == "failed":
                self._write(trial, "retried")
        self.search = Search(study, list(self.trials.values()))
        self._begun = [trial for trial in self.trials.values() if trial.state == "unfinished"]

    def next(self) -> Task | None:
        """First what an earlier run left unfinished, then what was never asked."""
        trial = self._begun.pop(0) if self._begun else self._ask()
        if trial is None:
            return None
        self.watcher.moved(trial)
        job = self._job(trial)
        return Task(trial.number, job, self.prepared, self.checkpoints / job.digest / "last.pt")

    def heard(self, event: Event) -> None:
        trial = self.trials[event["trial"]]
        if event["event"] == "epoch" and event["epoch"] <= len(trial.curve):
            return  # told again by a trial that goes on
        facts = {name: value for name, value in event.items() if name not in ("event", "trial")}
        self._write(trial, event["event"], **facts)
        if trial.state != "unfinished":
            self.search.tell(trial)
        self.watcher.moved(trial)

    def _write(self, trial: Trial, event: str, **facts: Any) -> None:
        """On disk first, then in memory."""
        trial.apply(self.ledger.append(event, trial=trial.number, **facts))

    def _ask(self) -> Trial | None:
        asked = self.search.ask()
        if asked is None:
            return None
        number, candidate, seed = asked
        trial = Trial(number, self.ledger.append("asked", trial=number, **self._facts(candidate, seed)))
        self.trials[number] = trial
        return trial

    def _facts(self, candidate: Candidate, seed: int) -> dict[str, Any]:
        counted, net = self.study.counted, candidate.net
        cost = count(net, counted.side, classes=counted.classes)
        small = stand_in(net, self.study.proxy)
        small_cost = count(small, self.study.proxy.side, classes=len(self.prepared.classes))
        return {
            "name": candidate.name,
            "key": net.key,
            "spec": str(net),
            "seed": seed,
            "side": counted.side,
            **asdict(cost),
            "trained_spec": str(small),
            "trained_side": self.study.proxy.side,
            "trained_params": small_cost.params,
            "trained_macs": small_cost.macs,
            "decisions": candidate.decisions,
        }

    def _job(self, trial: Trial) -> Job:
        proxy = self.study.proxy
        net = stand_in(parse_net(trial.asked["spec"]), proxy)
        return Job(net.full, proxy.side, proxy.classes, trial.asked["seed"], self.study.recipe, self.study.data)
