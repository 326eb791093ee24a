"""Plan: predicted trials, costs and hours of a study; shown, stored, compared with the run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from hiri_search.study.ledger.events import Event, Planned, RunEnded, StudyStarted
from hiri_search.study.ledger.ledger import end_of_run, of_kind, trials
from hiri_search.study.ledger.values import JsonObject, from_json, to_json
from hiri_search.system.units import GIGA, HOUR, MEGA

MIN_SECONDS = 1.0  # shorter parts are not compared
IDLE_SHARE = 0.9  # share of a core from which on the machine counts as idle
# Parts of a run as `RunEnded` names them, and the parts of a plan that belong to each.
PLAN_PARTS = {
    "images": ("images",),
    "counting": ("counting",),
    "inference": ("inference",),
    "trials": ("workers", "trials"),
}


@dataclass(frozen=True)
class Training:
    """Trials of one row of an ablation, or all first trainings or all confirmations of a search."""

    name: str
    trained: str  # spec of the stand-in; empty for several networks
    side: int  # pixels, at which the stand-in is trained
    gmacs: float  # of the counted network; of several networks the mean
    mparams: float
    trials: int  # without trials that repeat the training of another row
    epochs: float  # of one trial, on average
    seconds: float  # of one trial, on average
    timed: bool  # True: all its networks were timed; False: some times come from the time model
    steps: float = 0.0  # of one trial, on average; 0: a plan of an earlier version


@dataclass(frozen=True)
class Quartiles:
    """Minimum, quartiles and maximum of a number over networks."""

    min: float
    q1: float
    median: float
    q3: float
    max: float

    def __str__(self) -> str:
        return " | ".join(f"{value:.3g}" for value in (self.min, self.q1, self.median, self.q3, self.max))


@dataclass(frozen=True)
class CostSpread:
    """Size and costs of the space of a search."""

    size: int  # networks
    feasible: int  # networks within the cost constraints; all networks where there are none
    sampled: int  # uniformly sampled networks that the quartiles are computed from
    gmacs: Quartiles
    mparams: Quartiles


@dataclass(frozen=True)
class Plan:
    """Predicted trials, costs and times of a study."""

    device: str
    slots: int  # trials side by side
    gpus: float  # of each trial; 0: it runs on one core
    trainings: tuple[Training, ...]
    space: CostSpread | None  # None: an ablation
    seconds: Mapping[str, float]  # by part, in order
    epoch_seconds: float  # sum over all epochs of all trials, as the ledger reports them
    timed: int  # networks that were timed
    model_error: float | None  # mean absolute relative error of the time model, leave-one-out; None: too few networks
    core_share: float | None  # share of a core that each probe had; below 1 on a busy machine; None on a GPU
    limits: tuple[str, ...]  # facts that the plan cannot predict
    memory: int | None = None  # most bytes of a trial: on its GPU, else in main memory; None: not measured
    # Bytes of images to decode, of the largest checkpoint, and free beside them; empty: a plan of an earlier version.
    disk: Mapping[str, int] = field(default_factory=dict)
    processes: int = 1  # that train one network together

    @property
    def trials(self) -> int:
        return sum(training.trials for training in self.trainings)

    @property
    def first_trials(self) -> int:
        """Trials without the confirmations of a search."""
        return self.trainings[0].trials if self.space else self.trials

    @property
    def total(self) -> float:
        """Seconds from the start of the command to its end."""
        return sum(self.seconds.values())

    @property
    def trial_seconds(self) -> float:
        """Seconds of all trials, one after the other."""
        return sum(training.trials * training.seconds for training in self.trainings)

    @property
    def device_hours(self) -> float:
        """GPU-hours of all trials, or core-hours without a GPU."""
        return (self.gpus or float(self.processes)) * self.trial_seconds / HOUR

    @property
    def hours_unit(self) -> str:
        return "GPU-hours" if self.gpus else "core-hours"

    def to_json(self) -> JsonObject:
        """Return plain values, which `from_json` reads."""
        return to_json(self)

    @staticmethod
    def from_json(values: JsonObject) -> Plan:
        """Return the plan that `to_json` wrote."""
        return from_json(Plan, values)


@dataclass(frozen=True)
class Compared:
    """Planned and actual seconds of one part of a run."""

    part: str
    planned: float
    took: float

    @property
    def error(self) -> float:
        """Relative error of the plan; 0 means that the plan was exact."""
        return self.planned / self.took - 1


def compared_with_run(plan: Plan, events: Sequence[Event]) -> list[Compared]:
    """Return each part of the run, then their total, then the epochs alone; empty while trials are missing or open.

    Only the epochs are compared if a run was killed, because its parts have no end, or if a rule has added seeds, which
    are not planned. A run that has ended may have fewer confirmations than were planned: of too few networks of like
    cost.
    """
    every = trials(events)
    all_trials = [trial for trial in every if trial.asked.added_for is None]
    first = sum(not trial.is_confirmation for trial in all_trials)
    enough = len(all_trials) >= plan.trials or (first >= plan.first_trials and end_of_run(events))
    if not enough or not all(trial.ended for trial in all_trials):
        return []
    epochs = sum(epoch.seconds for trial in all_trials if not trial.source for epoch in trial.curve)
    runs = [ended.seconds for ended in of_kind(events, RunEnded)]
    all_ended = len(runs) == len(of_kind(events, StudyStarted)) and len(all_trials) == len(every)
    parts = [_compared(plan, runs, part) for part in PLAN_PARTS] if all_ended else []
    total = Compared("in all", sum(p.planned for p in parts), sum(p.took for p in parts))
    rows = [*parts, *[total] * bool(parts), Compared("epochs of all trials", plan.epoch_seconds, epochs)]
    return [row for row in rows if row.took >= MIN_SECONDS]


def _compared(plan: Plan, runs: Sequence[Mapping[str, float]], part: str) -> Compared:
    return Compared(part, sum(plan.seconds[name] for name in PLAN_PARTS[part]), sum(run[part] for run in runs))


def last_plan(events: Iterable[Event]) -> Plan | None:
    """Return the newest plan of a ledger; None where there is none."""
    planned = of_kind(events, Planned)
    return Plan.from_json(planned[-1].plan) if planned else None


def plan_lines(plan: Plan) -> Iterator[str]:
    """Yield the plan as text; `plan_table` has the trials by network."""
    yield f"{plan.trials} trials, {plan.slots} side by side on {plan.device}{_devices(plan)}"
    if plan.space:
        yield from _space_lines(plan.space)
    yield f"total time about {duration(plan.total)}; trials use {plan.device_hours:.3g} {plan.hours_unit}"
    yield "  " + ", ".join(f"{name} {duration(seconds)}" for name, seconds in plan.seconds.items())
    error = "" if plan.model_error is None else f"; mean error of the time model for others: {plan.model_error:.0%}"
    yield f"  based on {plan.timed} networks timed on this device{error}"
    if plan.core_share is not None and plan.core_share < IDLE_SHARE:
        idle = f"trials take {duration(plan.core_share * plan.seconds['trials'])} on an idle machine"
        busy = f"other processes used {1 - plan.core_share:.0%} of the core time, and the plan expects the same"
        yield f"  {busy}; {idle}"
    yield from _need_lines(plan)
    yield from (f"  unknown: {limit}" for limit in plan.limits)


def _need_lines(plan: Plan) -> Iterator[str]:
    """Yield the steps of a trial, its memory, and the disk space of images and checkpoints."""
    if not (most := max(training.steps for training in plan.trainings)):
        return  # a plan of an earlier version
    memory = f"; at most {bytes_text(plan.memory)} of {'GPU ' if plan.gpus else ''}memory" if plan.memory else ""
    yield f"  a trial takes {'up to ' if len(plan.trainings) > 1 else ''}{most:,.0f} steps{memory}"
    images, checkpoint, free = (plan.disk[name] for name in ("images", "checkpoint", "free"))
    short = "; make room, or write cache: none" if images > free else ""
    yield f"  disk: images {bytes_text(images)}, a checkpoint {bytes_text(checkpoint)}; {bytes_text(free)} free{short}"


def _devices(plan: Plan) -> str:
    if plan.processes == 1:
        return ""
    return f"; each takes {plan.processes} {'GPUs' if plan.gpus else 'cores'}, one for each of its processes"


def _space_lines(space: CostSpread) -> Iterator[str]:
    share = f"{space.feasible:,} ({space.feasible / space.size:.2%}) within the budget"
    yield f"{space.size:,} networks in the space" + (f", {share}" if space.feasible < space.size else "")
    yield f"  min | quartiles | max of {space.sampled} uniformly sampled networks"
    yield f"  gmacs   {space.gmacs}"
    yield f"  mparams {space.mparams}"


PLAN_COLUMNS = ("network", "side", "gmacs", "mparams", "trials", "epochs", "s/trial", "")


def plan_table(plan: Plan) -> Iterator[tuple[str, ...]]:
    """Yield one row for each entry of `trainings`, with the columns PLAN_COLUMNS."""
    for row in plan.trainings:
        costs = (f"{row.gmacs:.3f}", f"{row.mparams:.2f}")
        counts = (str(row.trials), f"{row.epochs:.3g}", f"{row.seconds:.1f}")
        yield (row.name, str(row.side), *costs, *counts, "timed" if row.timed else "by time model")


def error_lines(rows: Iterable[Compared]) -> Iterator[str]:
    """Yield the planned and the actual time of each part as text."""
    for row in rows:
        yield f"{row.part}: planned {duration(row.planned)}, took {duration(row.took)} ({row.error:+.0%})"


def bytes_text(size: int) -> str:
    """Return bytes as text: `0.4 MB`, `28.4 GB`."""
    return f"{size / GIGA:,.1f} GB" if size >= GIGA else f"{size / MEGA:,.1f} MB"


def duration(seconds: float) -> str:
    """Return seconds as text: `12 s`, `3 min 20 s`, `2 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60:02} min"
