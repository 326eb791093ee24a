"""Status of a study, from its ledger alone."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hiri_search.cost.pareto import pareto_mask
from hiri_search.study.eta import SECONDS_PER_HOUR, Throughput, remaining, seconds_left, throughput, trials_wanted
from hiri_search.study.ledger.events import RUN_ENDED, TIME, Event
from hiri_search.study.ledger.ledger import read_events, study_event, trials
from hiri_search.study.ledger.lock import Holder, holder
from hiri_search.study.ledger.trial import Trial
from hiri_search.study.plan.plan import duration
from hiri_search.study.search.objectives import OBJECTIVES, losses

OF_AN_ABLATION = ("top1", "gmacs")  # the objectives of its front
RUNNING = "at work"
STATES = ("finished", RUNNING, "unfinished", "paused", "failed", "stopped")
OFF = ("finished", "failed", "stopped", "paused", "lost", "crowded")  # behind these a trial is at no work
SILENCE = 600.0  # seconds, behind which a run whose lock is not seen here is taken to be over
MAX_LISTED = 12  # lines of each list; JSON has them all


@dataclass(frozen=True)
class RunningTrial:
    """A trial at work."""

    trial: int
    name: str
    epochs: int  # that it has told of
    device: str


@dataclass(frozen=True)
class FailureGroup:
    """What happened to trials for one reason; numbers in it may differ."""

    reason: str  # of the first one
    times: int
    trials: tuple[int, ...]
    devices: tuple[str, ...]  # that they were on


@dataclass(frozen=True)
class Status:
    """All that a ledger tells of how its study stands."""

    title: str
    holder: Holder
    running: bool  # as far as is seen from here
    silent: float | None  # seconds since the last line, by the clock here; None: that line has no time
    states: Mapping[str, int]  # trials
    wanted: int  # trials in all; of a search the most
    done: Throughput  # in training, by all runs together
    seconds_left: tuple[float, float] | None  # of training, from and to; None: not known
    busy: tuple[RunningTrial, ...]
    front: tuple[Mapping[str, Any], ...]  # name, seeds, and each objective
    failures: tuple[FailureGroup, ...]
    lost: tuple[FailureGroup, ...]  # with their process or machine; they went on elsewhere, or failed

    def to_json(self) -> dict[str, Any]:
        """In plain values."""
        return asdict(self)


def status(folder: Path) -> Status:
    """Reads, and changes nothing. StudyError where there is no ledger, or where it cannot be read."""
    held, events = holder(folder), read_events(folder, timed=True)
    about = study_event(events, folder)
    silent = time.time() - events[-1][TIME] if TIME in events[-1] else None
    known = {trial.number: trial for trial in trials(events)}
    unseen = (
        held.on_another_machine and events[-1]["event"] != RUN_ENDED
    )  # a lock of another machine may not be seen here
    running = held.held or (unseen and silent is not None and silent < SILENCE)
    busy = _busy(events) if running else set()
    steps = throughput(events, known)
    counted = [event for event in events if event["event"] == "counted"]
    return Status(
        about["title"],
        held,
        running,
        silent,
        _states(known.values(), busy),
        trials_wanted(about["file"]),
        steps[-1],
        seconds_left(steps, remaining(about["file"], counted, list(known.values()))),
        tuple(RunningTrial(n, known[n].asked["name"], len(known[n].curve), known[n].device) for n in sorted(busy)),
        tuple(_front(known.values(), about["file"])),
        tuple(_grouped([(t.reason, t) for t in known.values() if t.state == "failed"])),
        tuple(_grouped([(event["reason"], known[event["trial"]]) for event in events if event["event"] == "lost"])),
    )


def _busy(events: Iterable[Event]) -> set[int]:
    """The trials that have begun in the last run and are not known to have left off."""
    busy: set[int] = set()
    for event in events:
        match event["event"]:
            case "study":
                busy.clear()
            case "began":
                busy.add(event["trial"])
            case off if off in OFF:
                busy.discard(event["trial"])
    return busy


def _states(known: Iterable[Trial], busy: set[int]) -> dict[str, int]:
    counts = dict.fromkeys(STATES, 0)
    for trial in known:
        counts[RUNNING if trial.number in busy else trial.state] += 1
    return counts


def _front(known: Iterable[Trial], file: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The networks that no other beats, the cheapest first; each is the mean of the seeds that have finished."""
    names = file["search"]["objectives"] if file["nets"] is None else OF_AN_ABLATION
    by_name: dict[str, list[Trial]] = {}
    for trial in known:
        if trial.state == "finished" and not trial.is_confirmation:
            by_name.setdefault(trial.asked["name"], []).append(trial)
    found = {name: worth for name, seeds in by_name.items() if (worth := losses(seeds, names))}
    if not found:
        return
    best = pareto_mask(np.array(list(found.values())))
    for name, worth in sorted((one for one, is_best in zip(found.items(), best, strict=True) if is_best), key=_cost):
        values = (-loss if OBJECTIVES[each].up else loss for each, loss in zip(names, worth, strict=True))
        yield {"name": name, "seeds": len(by_name[name]), **dict(zip(names, values, strict=True))}


def _cost(one: tuple[str, tuple[float, ...]]) -> tuple[float, ...]:
    """By the last objective first; the first is mostly top-1."""
    return one[1][::-1]


def _grouped(happened: Iterable[tuple[str, Trial]]) -> Iterator[FailureGroup]:
    """The most frequent first."""
    groups: dict[str, list[tuple[str, Trial]]] = {}
    for reason, trial in happened:
        groups.setdefault(re.sub(r"\d+(\.\d+)?", "0", reason), []).append((reason, trial))
    for group in sorted(groups.values(), key=len, reverse=True):
        numbers = tuple(dict.fromkeys(trial.number for _, trial in group))
        devices = tuple(dict.fromkeys(trial.device for _, trial in group if trial.device))
        yield FailureGroup(group[0][0], len(group), numbers, devices)


# ---- shown


def status_lines(found: Status) -> Iterator[str]:
    """The status in words."""
    yield from (found.title,) if found.title else ()
    yield _running(found)
    counts = ", ".join(f"{count} {state}" for state, count in found.states.items() if count) or "none yet"
    yield f"trials: {counts}; {sum(found.states.values()):,} of {found.wanted:,} asked for"
    yield f"throughput: {_pace(found.done)}"
    yield f"time left: {_left(found)}"
    yield from _listed("at work", [f"trial {b.trial}, epoch {b.epochs}, on {b.device}: {b.name}" for b in found.busy])
    yield from _listed("front so far", [_member(member) for member in found.front])
    yield from _listed("failed", map(_trouble, found.failures))
    yield from _listed("lost on the way", map(_trouble, found.lost))


def _running(found: Status) -> str:
    ago = "" if found.silent is None else f"; last line {duration(max(0.0, found.silent))} ago"
    who = f"process {found.holder.who or 'unknown'}"
    if found.running:
        return f"running: {who}{'' if found.holder.held else ', by its lines alone'}{ago}"
    if found.holder.on_another_machine:
        return f"not running as far as is seen from here: {who} was the last{ago}"
    return f"not running{f': {who} was the last' if found.holder.who else ''}{ago}"


def _pace(done: Throughput) -> str:
    if not done.hours or not done.epochs:
        return "not known yet"
    trials_, epochs = done.trials / done.hours, done.epochs / done.hours
    return f"{trials_:,.3g} trials/h, {epochs:,.3g} epochs/h in {duration(SECONDS_PER_HOUR * done.hours)} of training"


def _left(found: Status) -> str:
    if found.seconds_left is None:
        return "not known yet"
    low, high = map(duration, found.seconds_left)
    if found.seconds_left == (0.0, 0.0):
        return "none"
    idle = "" if found.running else ", once it runs"
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
