"""Short trainings of many networks, longer ones of those that are worth it, with several objectives.

Successive halving as trials come in (ASHA, Li et al. 2020); with brackets, Hyperband (Li et al. 2018). Who goes on is
decided by non-domination and not by accuracy alone: a cheap network is not stopped for being worse than a dear one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from hiri_search.cost.front import best_first
from hiri_search.study.config import Halving
from hiri_search.study.ledger import Trial
from hiri_search.study.objectives import losses_after


class Ladder:
    """The rungs of a search: all it knows follows from the trials, so it is as it was after a crash."""

    def __init__(self, rules: Halving, objectives: Sequence[str]) -> None:
        self.rules, self.objectives = rules, objectives

    def next_rung(self, trial: Trial) -> int | None:
        """The epoch behind which it pauses next; None: it is trained to the end."""
        return next((epochs for epochs in self._rungs(trial) if epochs > trial.rung), None)

    def promoted(self, trials: Iterable[Trial], *, last: bool = False) -> Trial | None:
        """A paused trial that goes on, of the highest rung first; `last`: no other network will come.

        Of those that came to a rung the best share goes on; at the last at least one.
        """
        known = sorted(trials, key=lambda trial: trial.number)
        for bracket in range(self.rules.brackets):
            ours = [trial for trial in known if self._bracket(trial) == bracket]
            for epochs in reversed(self.rules.epochs[bracket:]):
                if trial := self._best_paused(ours, epochs, last=last):
                    return trial
        return None

    def _best_paused(self, trials: Sequence[Trial], epochs: int, *, last: bool) -> Trial | None:
        alive = (trial for trial in trials if len(trial.curve) >= epochs and trial.state != "failed")
        came = [(trial, found) for trial in alive if (found := losses_after(trial, epochs, self.objectives))]
        share = self.rules.share(len(came))
        if not came or not (share or last):
            return None
        order = best_first(np.array([found for _, found in came]))
        going_on = (came[index][0] for index in order[: max(share, 1)])
        return next((t for t in going_on if t.state == "paused" and len(t.curve) == epochs), None)

    def _rungs(self, trial: Trial) -> tuple[int, ...]:
        return self.rules.epochs[self._bracket(trial) :]

    def _bracket(self, trial: Trial) -> int:
        """In turn: the trials of the second one begin with the second rung, and so on."""
        return trial.number % self.rules.brackets
