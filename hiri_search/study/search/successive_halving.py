"""Asynchronous successive halving (ASHA) and Hyperband with several objectives."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hiri_search.cost.nondominated_layers import Layers
from hiri_search.cost.pareto import crowding_distance
from hiri_search.study.config.schema import HalvingConfig
from hiri_search.study.ledger.trial import Trial
from hiri_search.study.search.objectives import losses_after


class SuccessiveHalving:
    """The rungs of a search: all it knows follows from the trials, so it is as it was after a crash."""

    def __init__(self, rules: HalvingConfig, objectives: Sequence[str]) -> None:
        self.rules = rules
        self._rungs = {
            (bracket, epochs): _Rung(epochs, objectives)
            for bracket in range(rules.brackets)
            for epochs in reversed(rules.epochs[bracket:])
        }

    def next_rung(self, trial: Trial) -> int | None:
        """The epoch behind which it pauses next; None: it is trained to the end."""
        return next((epochs for epochs in self.rules.epochs[self._bracket(trial) :] if epochs > trial.rung), None)

    def update(self, trial: Trial) -> None:
        """What has become of a trial; to be told of each at every change."""
        for (bracket, _), rung in self._rungs.items():
            if bracket == self._bracket(trial):
                rung.see(trial)

    def promoted(self, *, last: bool = False) -> Trial | None:
        """A paused trial that goes on, of the highest rung first; `last`: no other network will come.

        Of those that came to a rung the best share goes on; at the last at least one.
        """
        for rung in self._rungs.values():
            share = self.rules.promoted_count(len(rung.came))
            if trial := rung.best_paused(max(share, int(last))):
                return trial
        return None

    def _bracket(self, trial: Trial) -> int:
        """In turn: the trials of the second one begin with the second rung, and so on."""
        return trial.number % self.rules.brackets


class _Rung:
    """Those of a bracket that came to it, and are not known to have failed."""

    def __init__(self, epochs: int, objectives: Sequence[str]) -> None:
        self.epochs, self.objectives = epochs, objectives
        self.came: dict[int, tuple[float, ...]] = {}  # what they had come to there, by number
        self._paused: dict[int, Trial] = {}  # of these, who waits here
        self._layers = Layers()

    def see(self, trial: Trial) -> None:
        number = trial.number
        alive = len(trial.curve) >= self.epochs and trial.state != "failed"
        if not alive:
            if self.came.pop(number, None):
                self._layers.remove(number)
        elif number not in self.came and (found := losses_after(trial, self.epochs, self.objectives)):
            self.came[number] = found
            self._layers.add(number, found)
        if number in self.came and trial.state == "paused" and len(trial.curve) == self.epochs:
            self._paused[number] = trial
        else:
            self._paused.pop(number, None)

    def best_paused(self, share: int) -> Trial | None:
        """Of so many, by the front each is on, and then by how alone it is there, the first who waits."""
        if not self._paused or not share:
            return None
        for numbers, points in self._layers.fronts():
            if not self._paused.keys().isdisjoint(numbers.tolist()):
                order = np.lexsort((numbers, -crowding_distance(points)))
                waiting = (self._paused.get(int(number)) for number in numbers[order][:share])
                if trial := next(filter(None, waiting), None):
                    return trial
            share -= len(numbers)
            if share <= 0:
                return None
        return None
