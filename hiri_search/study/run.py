"""The life of a study: ask, train what the ledger lacks, write down what happens."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping, Set
from dataclasses import asdict
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

from hiri_search.cost.counts import count
from hiri_search.cost.latency import Latency, measure
from hiri_search.language import Network, Peer, parse_network
from hiri_search.study.candidates import Candidate, candidates, rows
from hiri_search.study.config import Study
from hiri_search.study.errors import StudyError
from hiri_search.study.ledger import LEDGER, Ledger, Trial, locked, open_ledger, trials
from hiri_search.study.meaning import differences, meaning
from hiri_search.study.search import Search
from hiri_search.study.task import Event, Feed, Task
from hiri_search.training.data import Prepared, check_augmentation, prepare
from hiri_search.training.device import found
from hiri_search.training.job import Job
from hiri_search.training.recipe import Recipe

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
Pictures = dict[int, Prepared]  # by the side that networks see


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
    trained on; SpecError where a network does not fit. All before anything is trained.
    """
    trainings = {(candidate.trained_side, candidate.recipe) for candidate in candidates(study)}
    with open_ledger(folder) as ledger:
        _check_same(study, ledger, folder)
        prepared = _prepare(study, trainings, folder / PICTURES, watcher)
        _check_same_pictures(study, ledger, prepared, folder)
        _write_start(study, ledger, prepared, profile)
        _count_networks(study, ledger, prepared, watcher)
        _time_networks(study, ledger, watcher)
        execute(StudyFeed(study, ledger, prepared, folder, watcher, retry_failed=retry_failed))


def _prepare(study: Study, trainings: Set[tuple[int, Recipe]], home: Path, watcher: Watcher) -> Pictures:
    """The pictures for all trainings, by side and recipe."""
    for side, recipe in trainings:
        check_augmentation(recipe, side)
    batch = max(recipe.batch for _, recipe in trainings)
    prepare_side = partial(
        prepare,
        study.data,
        home=home,
        classes=study.proxy.classes,
        batch=batch,
        cache=study.cache,
        say=watcher.say,
    )
    return {side: prepare_side(side) for side in sorted({side for side, _ in trainings})}


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


def _check_same_pictures(study: Study, ledger: Ledger, prepared: Pictures, folder: Path) -> None:
    begun = _begun(ledger)
    if begun and begun["pictures"]["keys"] != _keys(prepared):
        raise StudyError(f"the pictures of {study.data.source} have changed since {folder} was begun\n{WAY_OUT}")


def _keys(prepared: Pictures) -> dict[str, str]:
    """What names the pictures, by side; JSON knows no numbers as keys."""
    return {str(side): pictures.folder.name for side, pictures in prepared.items()}


def _begun(ledger: Ledger) -> Event | None:
    """What the ledger was begun with."""
    return next((event for event in ledger.events if event["event"] == "study"), None)


def _write_start(study: Study, ledger: Ledger, prepared: Pictures, profile: str) -> None:
    """What is needed to make the report from the ledger alone, and how the numbers were got."""
    shown = {name: row.model_dump(include={"paper", "note", "curve"}) for name, row in (study.nets or {}).items()}
    of_one = next(iter(prepared.values()))  # the same pictures at every side
    pictures = {"train": of_one.train, "val": of_one.val, "classes": len(of_one.classes)}
    ledger.append(
        "study",
        meaning=meaning(study),
        title=study.title,
        table=study.table,
        rows=shown,
        file=study.model_dump(mode="json"),
        profile=profile,
        device=found(),
        pictures=pictures | {"keys": _keys(prepared), "skipped": list(of_one.skipped)},
        versions={"python": platform.python_version()} | {name: _version(name) for name in PACKAGES},
        time=time.time(),
    )


def _version(name: str) -> str | None:
    """None where it is not installed: Ray is not needed for trials in this process."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _count_networks(study: Study, ledger: Ledger, prepared: Pictures, watcher: Watcher) -> None:
    """The costs of an ablation's rows, trained or not; a network that does not fit its side is found here."""
    known = {event["name"] for event in ledger.events if event["event"] == "counted"}
    unknown = [row for row in rows(study) if row.name not in known]
    if any(isinstance(row.network, Peer) for row in unknown):
        watcher.say(f"counting {len(unknown)} networks")
    for facts in [_facts(row, study, prepared) for row in unknown]:
        ledger.append("counted", **facts)


def _facts(candidate: Candidate, study: Study, prepared: Pictures) -> dict[str, Any]:
    """What a network is and costs, and what is trained for it."""
    facts = {
        "name": candidate.name,
        "key": candidate.network.key,
        "spec": str(candidate.network),
        "side": candidate.side,
        **asdict(count(candidate.network, candidate.side, classes=study.counted.classes)),
    }
    if candidate.trained is None:
        return facts
    side = candidate.trained_side
    cost = count(candidate.trained, side, classes=len(prepared[side].classes))
    trained = {"spec": str(candidate.trained), "side": side, "params": cost.params, "macs": cost.macs}
    return facts | {f"trained_{name}": value for name, value in trained.items()}


def _time_networks(study: Study, ledger: Ledger, watcher: Watcher) -> None:
    """Inference of an ablation's networks, on a machine that does nothing else yet."""
    if study.latency is None:
        return
    known = {(event["key"], event["side"]) for event in ledger.events if event["event"] == "timed"}
    unknown: dict[str, tuple[Network, int]] = {}
    for row in rows(study):
        if (row.network.key, row.side) not in known:  # one that stands there twice is timed once
            known.add((row.network.key, row.side))
            unknown[row.name] = (row.network, row.side)
    if unknown:
        watcher.say(f"timing inference of {len(unknown)} networks")
    for name, latency in measure(unknown, study.latency, classes=study.counted.classes, say=watcher.say):
        if isinstance(latency, Latency):  # else it does not fit into memory, as has been said
            ledger.append("timed", key=unknown[name][0].key, **asdict(latency))


class StudyFeed:
    """Gives out what the ledger lacks, and writes down what is heard."""

    def __init__(
        self,
        study: Study,
        ledger: Ledger,
        prepared: Pictures,
        folder: Path,
        watcher: Watcher,
        *,
        retry_failed: bool,
    ) -> None:
        self.study, self.ledger, self.prepared = study, ledger, prepared
        self.folder, self.watcher = folder, watcher
        self.trials = {trial.number: trial for trial in trials(ledger.events)}
        for trial in self.trials.values():
            if retry_failed and trial.state == "failed":
                self._write(trial, "retried")
        self.recipes = {row.name: row.recipe for row in rows(study)}  # of an ablation
        self.search = Search(study, list(self.trials.values()))
        self._begun = [trial for trial in self.trials.values() if trial.state == "unfinished"]

    def next(self) -> Task | None:
        """First what an earlier run left unfinished, then what was never asked."""
        trial = self._begun.pop(0) if self._begun else self._ask()
        if trial is None:
            return None
        self.watcher.moved(trial)
        job = self._job(trial.asked)
        return Task(trial.number, job, self.prepared[job.side], self.folder / trial.asked["checkpoint"])

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
        facts = {**_facts(candidate, self.study, self.prepared), "seed": seed, "decisions": candidate.decisions}
        facts["checkpoint"] = f"{CHECKPOINTS}/{self._job(facts).digest}/last.pt"
        self.trials[number] = Trial(number, self.ledger.append("asked", trial=number, **facts))
        return self.trials[number]

    def _job(self, asked: Mapping[str, Any]) -> Job:
        study, recipe = self.study, self.recipes.get(asked["name"], self.study.recipe)
        spec = parse_network(asked["trained_spec"]).full
        return Job(spec, asked["trained_side"], study.proxy.classes, asked["seed"], recipe, study.data)
