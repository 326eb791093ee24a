"""Asynchronous successive halving (ASHA) and Hyperband with several objectives."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hiri_search.cost.pareto import rank_then_crowding
from hiri_search.study.config.sections.search import HalvingConfig
from hiri_search.study.ledger.trial import Trial
from hiri_search.study.search.objectives import Objective, losses_after


class SuccessiveHalving:
    """Rungs and brackets of a search. The state follows from the trials alone, so a restart rebuilds it."""

    def __init__(self, config: HalvingConfig, objectives: Sequence[Objective]) -> None:
        self.config = config
        self._rungs = {
            (bracket, epochs): _Rung(epochs, objectives)
            for bracket in range(config.brackets)
            for epochs in reversed(config.epochs[bracket:])
        }

    def next_rung(self, trial: Trial) -> int | None:
        """Return the epoch after which a trial pauses next; None where it is trained to the end."""
        return next((epochs for epochs in self.config.epochs[self._bracket(trial) :] if epochs > trial.rung), None)

    def update(self, trial: Trial) -> None:
        """Record the state of a trial; the scheduler calls this for each trial after each change."""
        for (bracket, _), rung in self._rungs.items():
            if bracket == self._bracket(trial):
                rung.update(trial)

    def promoted(self, *, last: bool = False) -> Trial | None:
        """Return a paused trial to promote, from the highest rung that has one.

        The best share of the trials at a rung is promoted; with `last` (no new network will come) at least one.
        """
        for rung in self._rungs.values():
            count = self.config.promoted_count(len(rung.reached))
            if trial := rung.best_paused(max(count, int(last))):
                return trial
        return None

    def _bracket(self, trial: Trial) -> int:
        """Assign trials to brackets in turn; bracket n begins with rung n."""
        return trial.number % self.config.brackets


class _Rung:
    """Trials of one bracket that have reached an epoch and have not failed."""

    def __init__(self, epochs: int, objectives: Sequence[Objective]) -> None:
        self.epochs, self.objectives = epochs, objectives
        self.reached: dict[int, tuple[float, ...]] = {}  # losses at this rung, by trial number
        self._paused: dict[int, Trial] = {}  # the trials among them that wait here, by number

    def update(self, trial: Trial) -> None:
        number = trial.number
        if len(trial.curve) < self.epochs or trial.state == "failed":
            self.reached.pop(number, None)
        elif number not in self.reached and (losses := losses_after(trial, self.epochs, self.objectives)):
            self.reached[number] = losses
        if number in self.reached and trial.state == "paused" and len(trial.curve) == self.epochs:
            self._paused[number] = trial
        else:
            self._paused.pop(number, None)

    def best_paused(self, count: int) -> Trial | None:
        """Return the best paused trial among the best `count`: by non-dominated rank, crowding distance, number."""
        if not self._paused or not count:
            return None
        numbers = sorted(self.reached)
        order = rank_then_crowding(np.array([self.reached[number] for number in numbers]))
        paused = (self._paused.get(numbers[index]) for index in order[:count])
        return next(filter(None, paused), None)
