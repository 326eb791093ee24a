"""Trial queue: the order in which the trials of a study are started and continued."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from hiri_search.study.config.networks import Candidate
from hiri_search.study.config.schema import Study
from hiri_search.study.ledger.trial import Trial
from hiri_search.study.search import confirmation
from hiri_search.study.search.search import AskTell
from hiri_search.study.search.successive_halving import SuccessiveHalving


@dataclass(frozen=True)
class Resume:
    """Continue a trial that an earlier run left unfinished, or whose worker was lost."""

    trial: Trial


@dataclass(frozen=True)
class Promote:
    """Continue a paused trial to the next rung."""

    trial: Trial


@dataclass(frozen=True)
class Stop:
    """End a paused trial for good: no promotion can come any more."""

    trial: Trial


@dataclass(frozen=True)
class Start:
    """Begin a trial of a network that the study asks for."""

    number: int
    candidate: Candidate
    seed: int


@dataclass(frozen=True)
class Confirm:
    """Train the network of a finished trial longer."""

    trial: Trial
    seed: int
    epochs: int


QueueStep: TypeAlias = Resume | Promote | Stop | Start | Confirm


@dataclass
class TrialQueue:
    """The next step of a study; `trials` are shared with the scheduler, which keeps their states."""

    study: Study
    trials: dict[int, Trial]
    search: AskTell
    halving: SuccessiveHalving | None
    resumable: list[Trial] = field(default_factory=list)
    # Known once all first trainings have ended or paused:
    _stops: Iterator[Trial] | None = None
    _confirmations: Iterator[tuple[Trial, int]] | None = None

    def next(self, running: set[int]) -> QueueStep | None:
        """Return the next step; None where there is none, or where it depends on `running` trials.

        The order: unfinished trials, promotions, new networks; then, once no first training is running, the last
        promotions, the end of paused trials, and confirmations.
        """
        if self.resumable:
            return Resume(self.resumable.pop(0))
        if step := self._promote() or self._start():
            return step
        if any(not self.trials[number].is_confirmation for number in running):
            return None
        return self._promote(last=True) or self._stop() or self._confirm()

    def first_trainings(self) -> list[Trial]:
        """Return the trials that are no confirmations."""
        return [trial for trial in self.trials.values() if not trial.is_confirmation]

    @property
    def may_grow(self) -> bool:
        """True if results of running trials can lead to further trials."""
        return bool(self.halving or self.study.confirm)

    def _promote(self, *, last: bool = False) -> Promote | None:
        trial = self.halving.promoted(last=last) if self.halving else None
        return Promote(trial) if trial else None

    def _start(self) -> Start | None:
        asked = self.search.ask()
        return Start(*asked) if asked else None

    def _stop(self) -> Stop | None:
        if self._stops is None:
            self._stops = iter([trial for _, trial in sorted(self.trials.items()) if trial.state == "paused"])
        trial = next(self._stops, None)
        return Stop(trial) if trial else None

    def _confirm(self) -> Confirm | None:
        confirm = self.study.confirm
        if confirm is None:
            return None
        epochs = confirm.epochs_for(self.study.recipe.epochs)
        if self._confirmations is None:  # all first trainings have ended, so that the choice cannot change any more
            best = confirmation.chosen(self.first_trainings(), confirm, self.study.search.objectives)
            self._confirmations = confirmation.missing(best, self.trials.values(), confirm.seeds, epochs)
        trial, seed = next(self._confirmations, (None, 0))
        return Confirm(trial, seed, epochs) if trial else None
