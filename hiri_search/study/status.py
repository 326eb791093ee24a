"""Status of a study, from its ledger alone."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hiri_search.cost.pareto import pareto_mask
from hiri_search.study.config.choices import best_settings
from hiri_search.study.config.networks import has_row
from hiri_search.study.config.schema import StudyConfig
from hiri_search.study.eta import Throughput, networks_wanted, remaining, seconds_left, throughput, trials_wanted
from hiri_search.study.ledger.events import NetworkCounted, RunEnded, StintEnded, StudyStarted, TrialBegan, TrialLost
from hiri_search.study.ledger.ledger import LedgerContent, of_kind, read_ledger, study_event, trials
from hiri_search.study.ledger.lock import Holder, holder
from hiri_search.study.ledger.trial import Trial
from hiri_search.study.plan.plan import duration
from hiri_search.study.search.added_seeds import possible_seeds, seconds_to_limit
from hiri_search.study.search.objectives import losses, objectives_of
from hiri_search.system.units import HOUR

RUNNING = "running"
STATES = ("finished", RUNNING, "unfinished", "paused", "failed", "stopped")
SILENCE = 600.0  # seconds after the last event, after which a run with an invisible lock counts as ended
MAX_LISTED = 12  # lines of each list; --json shows all


@dataclass(frozen=True)
class RunningTrial:
    """A trial that is being trained."""

    trial: int
    name: str
    epochs: int  # reported so far
    device: str


@dataclass(frozen=True)
class FailureGroup:
    """Failures or losses with the same reason, up to the numbers in it."""

    reason: str  # of the first one
    times: int
    trials: tuple[int, ...]
    devices: tuple[str, ...]


@dataclass(frozen=True)
class Status:
    """State of a study, as its ledger shows it."""

    title: str
    holder: Holder
    running: bool  # as far as this machine can see
    silent: float | None  # seconds since the last event, by the clock of this machine; None: that event has no time
    states: Mapping[str, int]  # trials
    wanted: int  # trials in total; of a search, and of a rule that adds seeds, the most
    done: Throughput  # of all runs together
    seconds_left: tuple[float, float] | None  # shortest and longest estimate; None: unknown
    busy: tuple[RunningTrial, ...]
    front: tuple[Mapping[str, Any], ...]  # name, seeds, and each objective
    failures: tuple[FailureGroup, ...]
    lost: tuple[FailureGroup, ...]  # with their worker; they continued on another one, or failed

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def status(folder: Path) -> Status:
    """Read the status of a results folder; needs no write permission. StudyError where its ledger cannot be read."""
    held = holder(folder)
    return status_of(read_ledger(folder), held)


def status_of(ledger: LedgerContent, held: Holder) -> Status:
    """Return the status of a study from its ledger, and from who holds its folder."""
    events = ledger.events
    started = study_event(events, ledger.folder)
    study = StudyConfig.model_validate(started.file)
    silent = None if (last := events[-1].time) is None else time.time() - last
    known = {trial.number: trial for trial in trials(events)}
    own = [trial for trial in known.values() if has_row(study, trial.network)]
    # The lock of another machine may be invisible here: then recent lines are the only sign of a run.
    maybe = held.on_another_machine and not isinstance(events[-1], RunEnded)
    running = held.held or (maybe and silent is not None and silent < SILENCE)
    busy = _running_trials(ledger) if running else set()
    steps = throughput(events, known)
    networks, counted = networks_wanted(study, events), [event.network for event in of_kind(events, NetworkCounted)]
    added = possible_seeds(study, own, events)
    least, most = (seconds_left(steps, remaining(study, networks, counted, own, more)) for more in ((), added))
    return Status(
        study.title,
        held,
        running,
        silent,
        _states(own, busy),
        trials_wanted(study, networks, own) + len(added),
        steps[-1],
        (least[0], max(least[1], min(most[1], seconds_to_limit(study, events)))) if least and most else None,
        tuple(RunningTrial(n, known[n].network.name, len(known[n].curve), known[n].device) for n in sorted(busy)),
        tuple(_front(own, study, test=started.images.test > 0)),
        tuple(_grouped([(t.reason, t) for t in own if t.state == "failed"])),
        tuple(_grouped([(event.reason, known[event.trial]) for event in of_kind(events, TrialLost)])),
    )


def _running_trials(ledger: LedgerContent) -> set[int]:
    """Return the trials that began in the last run and have not ended, paused or been lost since."""
    running: set[int] = set()
    for event in ledger.events:
        if isinstance(event, StudyStarted):
            running.clear()
        elif isinstance(event, TrialBegan):
            running.add(event.trial)
        elif isinstance(event, StintEnded):
            running.discard(event.trial)
    return running


def _states(trials: Iterable[Trial], running: set[int]) -> dict[str, int]:
    counts = Counter(RUNNING if trial.number in running else trial.state for trial in trials)
    return {state: counts[state] for state in STATES}


def _front(trials: Iterable[Trial], study: StudyConfig, *, test: bool) -> Iterator[dict[str, Any]]:
    """Yield the non-dominated networks, the cheapest first; each is the mean of its finished seeds.

    Scores are on the test images where there are some (`test`), as their names say.
    """
    objectives = objectives_of(study, test=test)
    by_name: dict[str, list[Trial]] = {}
    for trial in trials:
        if trial.state == "finished" and not trial.is_confirmation:
            by_name.setdefault(trial.network.name, []).append(trial)
    if study.nets is not None:
        chosen = best_settings(study, {name: _validated(seeds, study) for name, seeds in by_name.items()}).values()
        by_name = {name: seeds for name, seeds in by_name.items() if name in chosen}
    measured = {name: means for name, seeds in by_name.items() if (means := losses(seeds, objectives))}
    if not measured:
        return
    mask = pareto_mask(np.array(list(measured.values())))
    front = [item for item, on_front in zip(measured.items(), mask, strict=True) if on_front]
    for name, means in sorted(front, key=lambda item: item[1][::-1]):  # by the last objective; the first is the score
        values = {o.name: -loss if o.up else loss for o, loss in zip(objectives, means, strict=True)}
        yield {"name": name, "seeds": len(by_name[name]), **values}


def _validated(trials: Iterable[Trial], study: StudyConfig) -> list[float]:
    """Return the scores of finished trials on the validation images, which choose."""
    scores = (trial.curve[-1].score(study.headline.name) for trial in trials)
    return [score for score in scores if score is not None]


def _grouped(happened: Iterable[tuple[str, Trial]]) -> Iterator[FailureGroup]:
    """Group by reason, the most frequent first."""
    groups: dict[str, list[tuple[str, Trial]]] = {}
    for reason, trial in happened:
        groups.setdefault(re.sub(r"\d+(\.\d+)?", "0", reason), []).append((reason, trial))
    for group in sorted(groups.values(), key=len, reverse=True):
        numbers = tuple(dict.fromkeys(trial.number for _, trial in group))
        devices = tuple(dict.fromkeys(trial.device for _, trial in group if trial.device))
        yield FailureGroup(group[0][0], len(group), numbers, devices)


def status_lines(state: Status) -> Iterator[str]:
    """Yield the status as text."""
    yield from (state.title,) if state.title else ()
    yield _running(state)
    counts = ", ".join(f"{count} {name}" for name, count in state.states.items() if count) or "none yet"
    yield f"trials: {counts}; {sum(state.states.values()):,} of {state.wanted:,} asked for"
    yield f"throughput: {_pace(state.done)}"
    yield f"time left: {_left(state)}"
    yield from _listed("running", [f"trial {b.trial}, epoch {b.epochs}, on {b.device}: {b.name}" for b in state.busy])
    yield from _listed("front so far", [_member(member) for member in state.front])
    yield from _listed("failed", map(_trouble, state.failures))
    yield from _listed("lost", map(_trouble, state.lost))


def _running(state: Status) -> str:
    ago = "" if state.silent is None else f"; last event {duration(max(0.0, state.silent))} ago"
    who = f"process {state.holder.who or 'unknown'}"
    if state.running:
        return f"running: {who}{'' if state.holder.held else ' (judged by recent events)'}{ago}"
    if state.holder.on_another_machine:
        return f"not running, as far as this machine can see: {who} was the last{ago}"
    return f"not running{f': {who} was the last' if state.holder.who else ''}{ago}"


def _pace(done: Throughput) -> str:
    if not done.hours or not done.epochs:
        return "unknown yet"
    trials_, epochs = done.trials / done.hours, done.epochs / done.hours
    return f"{trials_:,.3g} trials/h, {epochs:,.3g} epochs/h in {duration(HOUR * done.hours)} of training"


def _left(state: Status) -> str:
    if state.seconds_left is None:
        return "unknown yet"
    low, high = map(duration, state.seconds_left)
    if state.seconds_left == (0.0, 0.0):
        return "none"
    idle = "" if state.running else ", once it runs"
    return (f"about {low}" if low == high else f"{low} to {high}") + idle


def _member(member: Mapping[str, Any]) -> str:
    values = "  ".join(f"{name} {value:.4g}" for name, value in member.items() if name not in ("name", "seeds"))
    return f"{values}  {member['name']}"


def _trouble(trouble: FailureGroup) -> str:
    first, *more = trouble.reason.splitlines() or ["for no reason"]
    numbers = ", ".join(map(str, trouble.trials[:MAX_LISTED])) + (", ..." if len(trouble.trials) > MAX_LISTED else "")
    where = f", on {'; '.join(trouble.devices)}" if trouble.devices else ""
    return f"{trouble.times} x {first}{' ...' if more else ''} (trials {numbers}{where})"


def _listed(head: str, rows: Iterable[str]) -> Iterator[str]:
    known = list(rows)
    if known:
        yield f"{head} ({len(known)}):"
        yield from (f"  {row}" for row in known[:MAX_LISTED])
    if len(known) > MAX_LISTED:
        yield f"  and {len(known) - MAX_LISTED} more, see --json"
