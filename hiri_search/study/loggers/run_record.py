"""RunRecord: a trial as the run of a logger, with its parameters, curve, state and tags."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from copy import copy
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Any, TypeAlias

from hiri_search.study.ledger.events import Event, StudyStarted, TrialAsked, TrialBegan, TrialEvent
from hiri_search.study.ledger.ledger import ledger_id
from hiri_search.study.ledger.trial import Trial, network_row, zero_cost_columns
from hiri_search.study.ledger.values import JsonObject
from hiri_search.system.units import GIGA

Parameter: TypeAlias = str | float | int | bool
_NOT_SHOWN = ("by_part", "core_macs")  # of a network: what no parameter of a run shows
_LONGEST_NAME = 60  # characters of a row in the name of a folder


@dataclass(frozen=True)
class Point:
    """The values of one step: those of an epoch, or, at step 0, the zero-cost scores of the untrained network."""

    step: int
    time: float  # seconds since 1970
    values: dict[str, float]


@dataclass
class RunRecord:
    """A trial as the run of a logger; all of it follows from the ledger."""

    study: str  # name of the results folder
    title: str
    ledger: str  # identifies the ledger
    trial: Trial
    recipe: JsonObject
    began: float  # seconds since 1970
    times: dict[int, float] = field(default_factory=dict)  # seconds since 1970 by epoch
    changed: float = 0.0  # time of the last event
    active: bool = True  # the study is running

    def apply(self, event: TrialEvent) -> None:
        """Change the trial as an event says."""
        self.trial.apply(event)
        self.changed = event.time or self.changed
        for epoch in self.trial.curve[len(self.times) :]:
            self.times[epoch.epoch] = self.changed

    def snapshot(self) -> RunRecord:
        """Return a copy that later events do not change."""
        return replace(self, trial=copy(self.trial), times=dict(self.times))

    @property
    def id(self) -> str:
        """The same for every run of the study, and in no other ledger."""
        return f"{self.ledger}-{self.trial.number:04d}"

    @property
    def name(self) -> str:
        """The name that people see."""
        return f"trial {self.trial.number}: {self.trial.network.name}, seed {self.trial.asked.seed}"

    @property
    def folder_name(self) -> str:
        """A name for a folder: of a search without the spec, which has brackets and arrows."""
        row = "" if self.trial.asked.decisions else re.sub(r"[^\w.+-]+", "-", self.trial.network.name)
        return f"trial_{self.trial.number:04d}_{row[:_LONGEST_NAME]}".rstrip("_-")

    @property
    def running(self) -> bool:
        """True while epochs may follow without a new run of the study, or a promotion."""
        return self.active and self.trial.state == "unfinished"

    @property
    def parameters(self) -> dict[str, Parameter]:
        """Network, costs, seed and recipe, by the names of the columns of trials.csv and of the recipe's keys."""
        asked, network = self.trial.asked, self.trial.network
        row = {name: value for name, value in network_row(network).items() if name not in _NOT_SHOWN}
        costs = {"gflops": network.macs / GIGA, "trained_gflops": network.trained.macs / GIGA}
        confirmed = {"confirms": asked.confirms, "epochs": asked.confirm_epochs}
        values: dict[str, Any] = {**asked.decisions, **row, **costs, **self.recipe, "seed": asked.seed}
        values |= {name: value for name, value in confirmed.items() if value is not None}
        return {name: value for name, value in values.items() if isinstance(value, Parameter)}

    @property
    def curve(self) -> Iterator[Point]:
        """The points of the curve, in order."""
        scores = {name: score for name, score in zero_cost_columns(self.trial.zero_cost).items() if score is not None}
        if scores:
            yield Point(0, self.began, scores)
        for epoch in self.trial.curve:
            values = {
                name: float(value) for name, value in epoch.row().items() if value is not None and name != "epoch"
            }
            yield Point(epoch.epoch, self.times.get(epoch.epoch, self.changed), values)

    @property
    def tags(self) -> dict[str, str]:
        """Texts that find a run again, or that change while it runs."""
        trial = self.trial
        tags = {"study": self.study, "title": self.title, "ledger": self.ledger, "trial": str(trial.number)}
        tags |= {"row": trial.network.name, "key": trial.network.key, "state": trial.state, "device": trial.device}
        tags |= {"source": trial.source, "reason": trial.reason}
        return tags

    @property
    def digest(self) -> str:
        """A hash of all that a logger shows."""
        shown = [self.parameters, [vars(point) for point in self.curve], self.tags, self.running]
        return hashlib.sha256(json.dumps(shown, sort_keys=True).encode()).hexdigest()[:16]


class RunRecords:
    """The trials of a ledger as runs, kept up to date event by event; threads may ask for snapshots."""

    def __init__(self, study: str, events: Iterable[Event], *, active: bool) -> None:
        """`study` is the name of the results folder; `active` says that the study is running."""
        self._study, self._active, self._lock = study, active, Lock()
        self._records: dict[int, RunRecord] = {}
        self._file: JsonObject = {}
        self._ledger = ""
        for event in events:
            self.apply(event)

    def apply(self, event: Event) -> int | None:
        """Take an event; return the number of the trial that it changes."""
        self._ledger = self._ledger or ledger_id(event)
        if isinstance(event, StudyStarted):
            self._file = event.file
        if not isinstance(event, TrialEvent):
            return None
        with self._lock:
            if isinstance(event, TrialAsked):
                self._records[event.trial] = self._record(event)
            elif event.trial in self._records:
                self._records[event.trial].apply(event)
        return None if isinstance(event, TrialBegan) else event.trial

    def _record(self, asked: TrialAsked) -> RunRecord:
        own, recipe = asked.network.trained.recipe, self._file.get("recipe")
        recipe = own or (recipe if isinstance(recipe, dict) else {})
        title, began = str(self._file.get("title") or ""), asked.time or 0.0
        return RunRecord(
            self._study, title, self._ledger, Trial(asked), recipe, began, changed=began, active=self._active
        )

    def snapshot(self, trial: int) -> RunRecord:
        """Return a trial as it is now."""
        with self._lock:
            return self._records[trial].snapshot()

    def end(self) -> list[int]:
        """Note that the study does not run any more; return the trials that go on with its next run."""
        with self._lock:
            left = [number for number, record in self._records.items() if record.running]
            for record in self._records.values():
                record.active = False
        return left

    @property
    def trials(self) -> list[int]:
        """The numbers of all trials."""
        with self._lock:
            return sorted(self._records)
