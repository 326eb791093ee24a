"""Throughput so far, and the time remaining."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from statistics import fmean

from hiri_search.study.config.networks import resolve
from hiri_search.study.config.schema import StudyConfig
from hiri_search.study.ledger.events import (
    EpochEnded,
    Event,
    FolderMerged,
    NetworkSkipped,
    StudyStarted,
    TrialAsked,
    TrialEvent,
    TrialFinished,
)
from hiri_search.study.ledger.ledger import end_of_run, of_kind
from hiri_search.study.ledger.trial import Trial
from hiri_search.study.ledger.values import NetworkFacts
from hiri_search.study.plan.schedule import training_stints
from hiri_search.study.search import confirmation
from hiri_search.study.search.objectives import objectives_of
from hiri_search.study.search.search_space import with_choices
from hiri_search.system.units import HOUR

MIN_EPOCHS = 4  # with fewer, no time is estimated


@dataclass(frozen=True)
class Throughput:
    """The training that was done, and the hours it took: from the first event of a trial in a run to the last."""

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
    """The training that is left, as far as it is decided."""

    epochs: float
    work: float  # as in Throughput
    longest: float  # seconds that one running trial still takes, by its own epochs


def throughput(events: Iterable[Event], trials: Mapping[int, Trial]) -> list[Throughput]:
    """Return the throughput after each epoch and each end of a trial; the first element is zero.

    Events without a time are ignored. A clock that was set back adds nothing; the time between two runs does not count.
    """
    steps, done, last = [Throughput()], Throughput(), None
    for event in events:
        if isinstance(event, StudyStarted | FolderMerged):
            last = None
        if not isinstance(event, TrialEvent) or event.time is None:
            continue
        hours = done.hours + max(0.0, event.time - (event.time if last is None else last)) / HOUR
        last = event.time
        epoch, finished = isinstance(event, EpochEnded), isinstance(event, TrialFinished) and not event.source
        work = done.work + epoch * _macs(trials[event.trial].network)
        done = Throughput(hours, done.trials + finished, done.epochs + epoch, work)
        if epoch or finished:
            steps.append(done)
    return steps


def seconds_left(steps: Sequence[Throughput], left: Remaining) -> tuple[float, float] | None:
    """Return the shortest and the longest estimate: by epochs and by work, at the rate of all steps and the later half.

    None where too few epochs are known.
    """
    if left.epochs == 0:
        return 0.0, 0.0
    whole, later = steps[-1], steps[-1] - steps[len(steps) // 2]
    rates = [done for done in (whole, later) if done.epochs >= MIN_EPOCHS and done.hours > 0 and done.work > 0]
    if not rates:
        return None
    estimates = [
        HOUR * done.hours * share for done in rates for share in (left.epochs / done.epochs, left.work / done.work)
    ]
    return max(min(estimates), left.longest), max(*estimates, left.longest)


def networks_wanted(study: StudyConfig, events: Sequence[Event]) -> int:
    """Return the networks that a study trains; of a search the most, since cost constraints may allow fewer."""
    if study.nets is not None:
        return len(_trained_rows(study))
    if (ended := end_of_run(events)) and ended.exhausted:
        return len({event.network.training for event in of_kind(events, TrialAsked)})
    space = resolve(study).space
    assert space is not None
    size = with_choices(space, study).size
    return min(study.search.networks, size - len(of_kind(events, NetworkSkipped)))


def trials_wanted(study: StudyConfig, networks: int, trials: Sequence[Trial] = ()) -> int:
    """Return the trials of a study that trains so many networks, and had these trials so far.

    Confirmations that are there count too, although the study may ask for other seeds, epochs or networks now; added
    seeds count if they are there.
    """
    confirmations = sum(trial.is_confirmation for trial in trials) + _confirmations_left(study, networks, trials)
    if study.auto_seeds is None:
        return networks * len(study.first_seeds) + confirmations
    return len({*product(_trained_rows(study), study.first_seeds), *((t.network.name, t.asked.seed) for t in trials)})


def remaining(
    study: StudyConfig,
    networks: int,
    counted: Iterable[NetworkFacts],
    trials: Sequence[Trial],
    added: Iterable[tuple[str, int]] = (),
) -> Remaining:
    """Return the training that the ledger lacks; of rungs, the share that the halving rules promote is taken.

    `added` are row and seed of trainings that a rule may add.
    """
    stints = list(_stints(study, networks, counted, trials, added))
    longest = max((_seconds_left_alone(study, trial) for trial in trials if not trial.ended), default=0.0)
    return Remaining(sum(epochs for epochs, _ in stints), sum(epochs * macs for epochs, macs in stints), longest)


def _stints(
    study: StudyConfig,
    networks: int,
    counted: Iterable[NetworkFacts],
    trials: Sequence[Trial],
    added: Iterable[tuple[str, int]],
) -> Iterator[tuple[float, float]]:
    """Yield epochs that are left, and the multiply-adds of the network that is trained."""
    first, confirmations = ([t for t in trials if t.is_confirmation == confirms] for confirms in (False, True))
    mean_macs = fmean([_macs(trial.network) for trial in trials]) if trials else 0.0
    wanted = networks * len(study.first_seeds)
    missing = max(0, wanted - len(first))
    if (halving := study.search.halving) and (missing or not all(trial.ended for trial in first)):
        stints = training_stints(wanted, study.recipe.epochs, halving)
        epochs = sum(end - start for _, start, end in stints)
        yield max(0.0, epochs - sum(len(trial.curve) for trial in first)), mean_macs
    else:
        yield from ((_epochs_left(study, trial), _macs(trial.network)) for trial in first if not trial.ended)
        if study.nets is None:
            yield missing * study.recipe.epochs, mean_macs
        else:
            yield from _missing_rows(study, counted, first, added)
    yield from ((_epochs_left(study, trial), _macs(trial.network)) for trial in confirmations if not trial.ended)
    if study.confirm:
        epochs = study.confirm.epochs_for(study.recipe.epochs)
        yield _confirmations_left(study, networks, trials) * epochs, mean_macs


def _missing_rows(
    study: StudyConfig, counted: Iterable[NetworkFacts], trials: Iterable[Trial], added: Iterable[tuple[str, int]]
) -> Iterator[tuple[float, float]]:
    asked = {(trial.network.name, trial.asked.seed) for trial in trials}
    macs = {network.name: _macs(network) for network in counted}
    for name, seed in {*product(_trained_rows(study), study.first_seeds), *added}:
        if (name, seed) not in asked:
            yield _row_epochs(study, name), macs.get(name, 0.0)


def _trained_rows(study: StudyConfig) -> list[str]:
    return [name for name, row in (study.nets or {}).items() if row.train]


def _confirmations_left(study: StudyConfig, networks: int, trials: Sequence[Trial]) -> int:
    """Return the confirmations that are not asked for yet: of the networks chosen so far, and of those to come."""
    confirm = study.confirm
    if confirm is None:
        return 0
    first = [trial for trial in trials if not trial.is_confirmation]
    chosen = confirmation.chosen(first, confirm, objectives_of(study))
    left = confirmation.missing(chosen, trials, confirm.seeds, confirm.epochs_for(study.recipe.epochs))
    is_final = len(first) >= networks * len(study.first_seeds) and all(trial.ended for trial in first)
    to_come = 0 if is_final else max(0, min(confirm.top + confirm.partners, networks) - len(chosen))
    return len(list(left)) + to_come * len(confirm.seeds)


def _row_epochs(study: StudyConfig, name: str) -> int:
    row = (study.nets or {}).get(name)
    return (row.recipe if row and row.recipe else study.recipe).epochs


def _epochs_left(study: StudyConfig, trial: Trial) -> int:
    return (trial.asked.confirm_epochs or _row_epochs(study, trial.network.name)) - len(trial.curve)


def progress_of(study: StudyConfig, trial: Trial) -> tuple[int, float]:
    """Return the epochs of a trial, and the seconds that it still takes by those it has trained; 0.0 before the first.

    With successive halving the seconds are those until the next epoch ends: a paused trial may never continue.
    """
    left = _epochs_left(study, trial)
    return len(trial.curve) + left, _seconds_left_alone(study, trial)


def _seconds_left_alone(study: StudyConfig, trial: Trial) -> float:
    """Return the seconds that a running trial still takes, by its own epochs; a paused trial may never continue."""
    if not trial.curve or trial.state != "unfinished":
        return 0.0
    until = _epochs_left(study, trial) if trial.is_confirmation or not study.search.halving else 1
    return until * fmean(epoch.seconds for epoch in trial.curve)


def _macs(network: NetworkFacts) -> float:
    """Return the multiply-adds of the network that is trained."""
    return float((network.stand_in or network).macs)
