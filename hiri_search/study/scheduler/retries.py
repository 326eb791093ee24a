"""Retry policy: whether a trial that was lost is trained again."""

from __future__ import annotations

from typing import Literal, TypeAlias

from hiri_search.study.ledger.events import TrialLost
from hiri_search.study.ledger.trial import Trial

MAX_LOSSES = 2  # of a trial without an epoch in between

Verdict: TypeAlias = Literal["retry", "fail", "end run"]


def after_loss(trial: Trial, loss: TrialLost) -> Verdict:
    """Decide on a trial that was lost, by its losses since its last epoch.

    A trial continues from its checkpoint until it was lost too often. After that, a fault of its process fails the
    trial, and a fault of the environment (a disk, a mount, a network) ends the run, because other trials need the
    same environment.
    """
    if trial.lost <= MAX_LOSSES:
        return "retry"
    return "end run" if loss.fault == "environment" else "fail"
