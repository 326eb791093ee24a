"""Retry policy: a lost trial continues until it was lost too often without an epoch."""

from __future__ import annotations

import pytest

from hiri_search.study.ledger.events import EpochEnded, TrialLost, TrialRetried
from hiri_search.study.scheduler.retries import MAX_LOSSES, Verdict, after_loss
from tests.study.records import epoch, new_trial

PROCESS = TrialLost(trial=0, fault="process", reason="killed")
ENVIRONMENT = TrialLost(trial=0, fault="environment", reason="OSError: no space left")
EPOCH, RETRIED = EpochEnded(trial=0, result=epoch()), TrialRetried(trial=0)
VERDICTS: list[tuple[list[TrialLost | EpochEnded | TrialRetried], Verdict]] = [
    ([PROCESS], "retry"),
    ([ENVIRONMENT], "retry"),
    ([PROCESS] * MAX_LOSSES, "retry"),
    ([PROCESS] * (MAX_LOSSES + 1), "fail"),
    ([ENVIRONMENT] * (MAX_LOSSES + 1), "end run"),
    ([ENVIRONMENT] * MAX_LOSSES + [PROCESS], "fail"),  # the last loss decides
    ([PROCESS] * MAX_LOSSES + [ENVIRONMENT], "end run"),
    ([PROCESS] * MAX_LOSSES + [EPOCH, PROCESS], "retry"),  # an epoch starts the count again
    ([PROCESS] * MAX_LOSSES + [RETRIED, PROCESS], "retry"),
]


@pytest.mark.parametrize(("events", "verdict"), VERDICTS)
def test_the_verdict_follows_from_the_losses_since_the_last_epoch(
    events: list[TrialLost | EpochEnded | TrialRetried], verdict: Verdict
):
    trial = new_trial()
    for event in events:
        trial.apply(event)
    loss = events[-1]
    assert isinstance(loss, TrialLost)
    assert after_loss(trial, loss) == verdict
