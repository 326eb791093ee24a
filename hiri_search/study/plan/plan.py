"""Plan: predicted trials, costs and hours of a study; shown, stored, compared with the run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from hiri_search.study.ledger.events import Event, Planned, RunEnded, StudyStarted
from hiri_search.study.ledger.ledger import of_kind, trials
from hiri_search.study.ledger.values import JsonObject, to_json

MIN_SECONDS = 1.0  # seconds, from which on a part is compared
ALONE = 0.9  # of a core, from which on a trial is taken to have had it for itself
# Of the parts of a plan, those that belong to one part of a run.
PLAN_PARTS = {
    "images": ("images",),
    "counting": ("counting",),
    "inference": ("inference",),
    "trials": ("workers", "trials"),
}


@dataclass(frozen=True)
class Training:
    """Trials of one network of an ablation, or those of a search together."""

    name: str
    trained: str  # the network that is trained for it; of a search ``
    side: int  # pixels, at which it is trained
    gmacs: float  # of the network that it stands for; of a search the mean
    mparams: float
    trials: int  # those left out whose training is another one's
    epochs: float  # of one trial, on average
    seconds: float  # of one trial, on average
    timed: bool  # by itself; else by the law that fits those that were timed


@dataclass(frozen=True)
class Quartiles:
    """How a number is spread over networks: the least, the quartiles, the most."""

    least: float
    low: float
    middle: float
    high: float
    most: float

    def __str__(self) -> str:
        return " | ".join(f"{value:.3g}" for value in (self.least, self.low, self.middle, self.high, self.most))


@dataclass(frozen=True)
class CostSpread:
    """The space of a search, as far as it is known before it."""

    size: int  # networks
    inside: int  # of them in the band; all of them where there is none
    sampled: int  # networks drawn by chance, of which the next two tell
    gmacs: Quartiles
    mparams: Quartiles

    @property
    def share(self) -> float:
        return self.inside / self.size


@dataclass(frozen=True)
class Plan:
    """All that is known of a study before anything is spent."""

    device: str
    slots: int  # trials side by side
    gpus: float  # of each trial; 0: it has a core
    trainings: tuple[Training, ...]
    space: CostSpread | None  # of a search
    seconds: Mapping[str, float]  # by part, in order
    epoch_seconds: float  # of all epochs of all trials, as the ledger tells them
    timed: int  # networks that were timed
    model_error: float | None  # mean size of the relative errors of the law for networks left out of it; None: too few
    share: float | None  # of a core that each trial had when it was timed: under 1 where others held it; None on a GPU
    limits: tuple[str, ...]  # what it does not know

    @property
    def trials(self) -> int:
        return sum(training.trials for training in self.trainings)

    @property
    def total(self) -> float:
        """Seconds from the command to its end."""
        return sum(self.seconds.values())

    @property
    def device_hours(self) -> float:
        """Of GPUs, or of cores."""
        return (self.gpus or 1.0) * sum(t.trials * t.seconds for t in self.trainings) / 3600

    def to_json(self) -> JsonObject:
        """Return plain values, which `from_json` reads."""
        return to_json(self)

    @staticmethod
    def from_json(facts: Mapping[str, Any]) -> Plan:
        known = {field.name: facts[field.name] for field in fields(Plan)}
        trainings = tuple(Training(**training) for training in facts["trainings"])
        return Plan(
            **known | {"trainings": trainings, "space": _space(facts["space"]), "limits": tuple(facts["limits"])}
        )


def _space(facts: Mapping[str, Any] | None) -> CostSpread | None:
    if facts is None:
        return None
    spreads = {name: Quartiles(**facts[name]) for name in ("gmacs", "mparams")}
    return CostSpread(**{**facts, **spreads})


# ---- held against what happened


@dataclass(frozen=True)
class Compared:
    """A part of a run, in seconds."""

    part: str
    planned: float
    took: float

    @property
    def error(self) -> float:
        """Of what was planned, relative to what it took."""
        return self.planned / self.took - 1


def compared_with_run(plan: Plan, events: Sequence[Event]) -> list[Compared]:
    """By part of the run, then all of them, then the epochs alone; empty where not all trials have come to an end.

    Nothing but the epochs where a run was killed and so has not told its times.
    """
    known = trials(events)
    if len(known) < plan.trials or not all(trial.ended for trial in known):
        return []
    epochs = sum(epoch.seconds for trial in known if not trial.source for epoch in trial.curve)
    runs = [ended.seconds for ended in of_kind(events, RunEnded)]
    parts = list(_parts(plan, runs)) if len(runs) == len(of_kind(events, StudyStarted)) else []
    whole = Compared("in all", sum(p.planned for p in parts), sum(p.took for p in parts))
    found = [*parts, *[whole] * bool(parts), Compared("epochs of all trials", plan.epoch_seconds, epochs)]
    return [one for one in found if one.took >= MIN_SECONDS]


def _parts(plan: Plan, runs: Sequence[Mapping[str, float]]) -> Iterator[Compared]:
    for part, ours in PLAN_PARTS.items():
        yield Compared(part, sum(plan.seconds[name] for name in ours), sum(run[part] for run in runs))


def last_plan(events: Iterable[Event]) -> Plan | None:
    """The newest plan of a ledger."""
    planned = of_kind(events, Planned)
    return Plan.from_json(planned[-1].plan) if planned else None


# ---- shown


def plan_lines(plan: Plan) -> Iterator[str]:
    """The plan in words; `table` has the trials by network."""
    yield f"{plan.trials} trials, {plan.slots} side by side on {plan.device}"
    if plan.space:
        yield from _space_lines(plan.space)
    unit = "GPU-hours" if plan.gpus else "core-hours"
    yield f"about {duration(plan.total)}, of which trials take {plan.device_hours:.3g} {unit}"
    yield "  " + ", ".join(f"{name} {duration(seconds)}" for name, seconds in plan.seconds.items())
    error = "" if plan.model_error is None else f"; the law for others is off by {plan.model_error:.0%} on average"
    yield f"  from {plan.timed} networks timed on this device{error}"
    if plan.share is not None and plan.share < ALONE:
        alone = f"trials take {duration(plan.share * plan.seconds['trials'])} on an idle machine"
        yield f"  other work held the cores for {1 - plan.share:.0%} of the time, and is taken to stay: {alone}"
    yield from (f"  not known: {limit}" for limit in plan.limits)


def _space_lines(space: CostSpread) -> Iterator[str]:
    inside = f", {space.inside:,} of them ({space.share:.2%}) inside the budget" if space.inside < space.size else ""
    yield f"{space.size:,} networks in the space{inside}"
    yield f"  least, quartiles and most of {space.sampled} drawn by chance"
    yield f"  gmacs   {space.gmacs}"
    yield f"  mparams {space.mparams}"


PLAN_COLUMNS = ("network", "side", "gmacs", "mparams", "trials", "epochs", "s/trial", "")


def plan_table(plan: Plan) -> Iterator[tuple[str, ...]]:
    """The rows under COLUMNS, by network."""
    for one in plan.trainings:
        costs = (f"{one.gmacs:.3f}", f"{one.mparams:.2f}")
        counts = (str(one.trials), f"{one.epochs:.3g}", f"{one.seconds:.1f}")
        yield (one.name, str(one.side), *costs, *counts, "timed" if one.timed else "by the law")


def error_lines(found: Iterable[Compared]) -> Iterator[str]:
    """What was planned beside what it took."""
    for one in found:
        yield f"{one.part}: planned {duration(one.planned)}, took {duration(one.took)} ({one.error:+.0%})"


def duration(seconds: float) -> str:
    """`12 s`, `3 min 20 s`, `2 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60:02} min"
