"""Throughput so far, and the time remaining."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from statistics import fmean
from typing import Any

from hiri_search.study.config.schema import ConfirmConfig, HalvingConfig
from hiri_search.study.ledger.events import MERGED, TIME, Event
from hiri_search.study.ledger.trial import Trial
from hiri_search.study.plan.schedule import training_stints

SECONDS_PER_HOUR = 3600.0
MIN_TRIALS = 4  # epochs, below which nothing is said of the future


@dataclass(frozen=True)
class Throughput:
    """What was trained, and in how many hours from the first trial's line of a run to its last."""

    hours: float = 0.0
    trials: int = 0  # finished
    epochs: int = 0
    work: float = 0.0  # epochs times multiply-adds of the network that is trained

    def __sub__(self, other: Throughput) -> Throughput:
        return Throughput(
            self.hours - other.hours, self.trials - other.trials, self.epochs - other.epochs, self.work - other.work
        )


@dataclass(frozen=True)
class Remaining:
    """What is still to be trained, as far as that is decided."""

    epochs: float
    work: float  # as in `Done`
    longest: float  # seconds that one trial alone still takes, by its own epochs


def throughput(events: Iterable[Event], known: Mapping[int, Trial]) -> list[Throughput]:
    """Behind each epoch and each end of a trial; the first is nothing. Lines without a time are passed over.

    A clock that went back adds nothing, and what lies between two runs is no time of training.
    """
    steps, done, before = [Throughput()], Throughput(), None
    for event in events:
        if event["event"] in ("study", MERGED):
            before = None
        if "trial" not in event or TIME not in event:
            continue
        hours = done.hours + max(0.0, event[TIME] - (event[TIME] if before is None else before)) / SECONDS_PER_HOUR
        before = event[TIME]
        epoch, finished = event["event"] == "epoch", event["event"] == "finished" and "source" not in event
        work = done.work + epoch * _macs(known[event["trial"]].asked)
        done = Throughput(hours, done.trials + finished, done.epochs + epoch, work)
        if epoch or finished:
            steps.append(done)
    return steps


def seconds_left(steps: Sequence[Throughput], rest: Remaining) -> tuple[float, float] | None:
    """From the least to the most: by epochs and by multiply-adds, at the pace of all training and of its later half.

    None where too little was told to say.
    """
    if rest.epochs == 0:
        return 0.0, 0.0
    whole, later = steps[-1], steps[-1] - steps[len(steps) // 2]
    paces = [done for done in (whole, later) if done.epochs >= MIN_TRIALS and done.hours > 0 and done.work > 0]
    if not paces:
        return None
    found = [
        SECONDS_PER_HOUR * done.hours * share
        for done in paces
        for share in (rest.epochs / done.epochs, rest.work / done.work)
    ]
    return max(min(found), rest.longest), max(*found, rest.longest)


def trials_wanted(file: Mapping[str, Any]) -> int:
    """Trials that a study asks for; of a search the most, for its space may hold fewer."""
    return _first_looks(file) + _second_looks(file)


def remaining(file: Mapping[str, Any], counted: Iterable[Event], known: Sequence[Trial]) -> Remaining:
    """What the ledger lacks of the study in `file`; from rungs as many are taken to go on as its rules say."""
    stints = list(_stints(file, counted, known))
    alone = max((_alone(file, trial) for trial in known if not trial.ended), default=0.0)
    return Remaining(sum(epochs for epochs, _ in stints), sum(epochs * macs for epochs, macs in stints), alone)


def _stints(file: Mapping[str, Any], counted: Iterable[Event], known: Sequence[Trial]) -> Iterator[tuple[float, float]]:
    """Epochs that are to come, and the multiply-adds of the network that is trained."""
    first, second = ([trial for trial in known if trial.is_confirmation == again] for again in (False, True))
    usual = fmean([_macs(trial.asked) for trial in known]) if known else 0.0
    missing = max(0, _first_looks(file) - len(first))
    if file["search"].get("halving") and (missing or not all(trial.ended for trial in first)):
        yield max(0.0, _halved(file) - sum(len(trial.curve) for trial in first)), usual
    else:
        yield from ((_epochs_left(file, trial), _macs(trial.asked)) for trial in first if not trial.ended)
        if file["nets"] is None:
            yield missing * file["recipe"]["epochs"], usual
        else:
            yield from _of_rows(file, counted, first)
    yield from ((_epochs_left(file, trial), _macs(trial.asked)) for trial in second if not trial.ended)
    yield max(0, _second_looks(file) - len(second)) * _longer(file), usual


def _of_rows(
    file: Mapping[str, Any], counted: Iterable[Event], known: Iterable[Trial]
) -> Iterator[tuple[float, float]]:
    """The trials of an ablation that were not asked for."""
    asked = {(trial.asked["name"], trial.asked["seed"]) for trial in known}
    costs = {event["name"]: _macs(event) for event in counted}
    for name, seed in product(_trained(file), file["seeds"]):
        if (name, seed) not in asked:
            yield _row_epochs(file, name), costs.get(name, 0.0)


def _trained(file: Mapping[str, Any]) -> list[str]:
    """The rows of an ablation that are."""
    return [name for name, row in file["nets"].items() if row.get("train", True)]


def _first_looks(file: Mapping[str, Any]) -> int:
    networks = file["search"]["networks"] if file["nets"] is None else len(_trained(file))
    return int(networks * len(file["seeds"]))


def _second_looks(file: Mapping[str, Any]) -> int:
    confirm = file.get("confirm")
    return min(confirm["top"], file["search"]["networks"]) * len(confirm["seeds"]) if confirm else 0


def _halved(file: Mapping[str, Any]) -> float:
    """Epochs of all trials of a search together."""
    rules = HalvingConfig.model_validate(file["search"]["halving"])
    return sum(end - start for _, start, end in training_stints(_first_looks(file), file["recipe"]["epochs"], rules))


def _longer(file: Mapping[str, Any]) -> int:
    """Epochs of a second look."""
    confirm = file.get("confirm")
    return ConfirmConfig.model_validate(confirm).epochs_for(file["recipe"]["epochs"]) if confirm else 0


def _row_epochs(file: Mapping[str, Any], name: str) -> int:
    recipe = ((file["nets"] or {}).get(name) or {}).get("recipe") or file["recipe"]
    return int(recipe["epochs"])


def _epochs_left(file: Mapping[str, Any], trial: Trial) -> int:
    return int(trial.asked.get("confirm_epochs") or _row_epochs(file, trial.asked["name"])) - len(trial.curve)


def _alone(file: Mapping[str, Any], trial: Trial) -> float:
    """Seconds that a trial at work still takes, by its own epochs; one that waits on a rung may not go on at all."""
    if not trial.curve or trial.state != "unfinished":
        return 0.0
    until = _epochs_left(file, trial) if trial.is_confirmation or not file["search"].get("halving") else 1
    return until * fmean(epoch["seconds"] for epoch in trial.curve)


def _macs(facts: Mapping[str, Any]) -> float:
    """Of the network that is trained; ledgers of an earlier version do not tell it."""
    return float(facts.get("trained_macs") or facts.get("macs") or 0.0)
