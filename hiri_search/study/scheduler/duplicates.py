"""Identical trainings are trained once: the others take over its result, or wait for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hiri_search.study.ledger import trial_cache
from hiri_search.study.ledger.trial import Trial, training_digest
from hiri_search.study.ledger.trial_cache import CachedResult


class Duplicates:
    """Trials with the same training digest: one of them is trained, the leader; the others wait for it."""

    def __init__(self, trials: Iterable[Trial], results: Mapping[str, CachedResult]) -> None:
        """`results` are those of other results folders, by training digest."""
        known = list(trials)
        self._results = {**results, **trial_cache.finished(known)}
        self._leaders = {training_digest(trial): trial for trial in known if trial.state == "paused"}
        self._waiting: dict[str, list[Trial]] = {}

    def result(self, trial: Trial) -> CachedResult | None:
        """Return the result of the same training; None where there is none yet."""
        return self._results.get(training_digest(trial))

    def must_wait(self, trial: Trial) -> bool:
        """Make the trial a leader, or let it wait for the leader of the same training."""
        digest = training_digest(trial)
        if self._leaders.setdefault(digest, trial) is trial:
            return False
        self._waiting.setdefault(digest, []).append(trial)
        return True

    def release(self, trial: Trial) -> list[Trial]:
        """Return the trials that waited for one that has ended; its result is known from now on."""
        digest = training_digest(trial)
        self._results |= trial_cache.finished([trial])
        self._leaders.pop(digest, None)
        return self._waiting.pop(digest, [])
