"""Trial queue: the order in which the trials of a study are started and continued."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import TypeAlias

from hiri_search.language.space import SearchSpace
from hiri_search.study.config.networks import Candidate, StudyNetworks, has_row
from hiri_search.study.ledger.events import NetworkSkipped, TrialPromoted, TrialStopped
from hiri_search.study.ledger.trial import Trial
from hiri_search.study.search import confirmation
from hiri_search.study.search.added_seeds import SeedRule, fits_time
from hiri_search.study.search.comparison_design import ComparisonDesign, comparison_design
from hiri_search.study.search.objectives import objectives_of
from hiri_search.study.search.search import OnSkip, ask_tell
from hiri_search.study.search.successive_halving import SuccessiveHalving
from hiri_search.system.files import Say


@dataclass(frozen=True)
class ExistingTrial:
    """A trial of the ledger to continue, or to end if `event` stops it; `event` is recorded first."""

    trial: Trial
    event: TrialPromoted | TrialStopped | None = None  # None: an earlier run or a lost worker left it unfinished


@dataclass(frozen=True)
class NewTrial:
    """A first training of a network that the study asks for."""

    number: int
    candidate: Candidate
    seed: int
    added_for: tuple[str, str] | None = None  # the pair of rows for which a rule has added the seed


@dataclass(frozen=True)
class Confirmation:
    """A longer training of the network of a finished trial."""

    trial: Trial
    seed: int
    epochs: int


QueueStep: TypeAlias = ExistingTrial | NewTrial | Confirmation


class TrialQueue:
    """Decides the next step of a study; the scheduler shares `trials` and keeps their states."""

    def __init__(
        self,
        networks: StudyNetworks,
        trials: Mapping[int, Trial],
        *,
        space: SearchSpace | None,
        skipped: Sequence[NetworkSkipped],
        on_skip: OnSkip,
        say: Say = lambda text: None,
        design: ComparisonDesign | None = None,
        seconds_left: Callable[[], float] = lambda: inf,
    ) -> None:
        """`space`, `skipped` and `on_skip` are those of `Search`; `design` and `seconds_left` are for added seeds."""
        self._say = say
        self.study, self.trials = networks.study, trials
        self._rows, self._seconds_left = {row.name: row for row in networks.trained_rows}, seconds_left
        self.rule = SeedRule(self.study, design or comparison_design(self.study)) if self.study.auto_seeds else None
        rules, first = self.study.search.halving, self._first_trainings()
        self.halving = SuccessiveHalving(rules, objectives_of(self.study)) if rules and space else None
        self.search = ask_tell(networks, list(trials.values()), space=space, skipped=skipped, on_skip=on_skip)
        unfinished = (trial for trial in trials.values() if trial.state == "unfinished")
        self.resumable = [trial for trial in unfinished if has_row(self.study, trial.network)]
        self._workers = 1  # that have trained at the same time
        # Both are decided when no first training is running, so that they cannot change any more:
        self._stops: Iterator[Trial] | None = None
        self._confirmations: Iterator[tuple[Trial, int]] | None = None
        for trial in first:
            self.update(trial)

    def next(self, running: set[int]) -> QueueStep | None:
        """Return the next step; None where there is none, or where it depends on `running` trials.

        The order: unfinished trials, promotions, new networks, added seeds; then, once no first training is running,
        the last promotions, the end of paused trials, and confirmations.
        """
        self._workers = max(self._workers, len(running) + 1)
        if self.resumable:
            return ExistingTrial(self.resumable.pop(0))
        if promotion := self._promote():
            return promotion
        if asked := self.search.ask():
            return NewTrial(*asked)
        if added := self._add_seed(self._workers - len(running)):
            return added
        if any(not self.trials[number].is_confirmation for number in running):
            return None
        return self._promote(last=True) or self._stop() or self._confirm()

    def update(self, trial: Trial) -> None:
        """Note the state of a trial at the rungs."""
        if self.halving and not trial.is_confirmation:
            self.halving.update(trial)

    def next_rung(self, trial: Trial) -> int | None:
        """Return the epoch after which a trial pauses; None where it is trained to the end."""
        return self.halving.next_rung(trial) if self.halving and not trial.is_confirmation else None

    @property
    def may_grow(self) -> bool:
        """True if results of running trials can lead to further trials."""
        return bool(self.halving or self.study.confirm or self.rule)

    def _add_seed(self, free_workers: int) -> NewTrial | None:
        trials = list(self.trials.values())
        added = self.rule.next(trials) if self.rule else None
        if added is None or not fits_time(added, trials, self._seconds_left(), free_workers=free_workers):
            return None
        return NewTrial(len(trials), self._rows[added.row], added.seed, added.pair)

    def _first_trainings(self) -> list[Trial]:
        return [trial for trial in self.trials.values() if not trial.is_confirmation]

    def _promote(self, *, last: bool = False) -> ExistingTrial | None:
        trial = self.halving.promoted(last=last) if self.halving else None
        return ExistingTrial(trial, TrialPromoted(trial=trial.number)) if trial else None

    def _stop(self) -> ExistingTrial | None:
        if self._stops is None:
            self._stops = iter([trial for _, trial in sorted(self.trials.items()) if trial.state == "paused"])
        trial = next(self._stops, None)
        return ExistingTrial(trial, TrialStopped(trial=trial.number)) if trial else None

    def _confirm(self) -> Confirmation | None:
        confirm = self.study.confirm
        if confirm is None:
            return None
        epochs = confirm.epochs_for(self.study.recipe.epochs)
        if self._confirmations is None:
            networks = confirmation.chosen(self._first_trainings(), confirm, objectives_of(self.study))
            missing = list(confirmation.missing(networks, self.trials.values(), confirm.seeds, epochs))
            if missing:
                self._say(confirmation.summary(networks, confirm))
            self._confirmations = iter(missing)
        trial, seed = next(self._confirmations, (None, 0))
        return Confirmation(trial, seed, epochs) if trial else None
