"""Trials one after the other in this process."""

from __future__ import annotations

from contextlib import suppress

from hiri_search.study.dispatch.run_trial import run_trial
from hiri_search.study.dispatch.task import TrialFunction, TrialSource, TrialTask
from hiri_search.study.ledger.events import EpochEnded, TrialEvent
from hiri_search.system.shutdown import Shutdown


class TrialInterrupted(BaseException):
    """Raised after an epoch, in a trial that stops for a shutdown."""


def run_serially(
    source: TrialSource, shutdown: Shutdown | None = None, *, trial_function: TrialFunction = run_trial
) -> None:
    """Run all trials one after the other in this process, without a timeout."""
    shutdown = shutdown or Shutdown()

    def report(event: TrialEvent) -> None:
        source.on_event(event)
        if isinstance(event, EpochEnded) and shutdown.requested:
            raise TrialInterrupted

    with shutdown.epochs_running(), suppress(TrialInterrupted):
        while not shutdown.requested and (task := source.next()):
            assert isinstance(task, TrialTask), "no trial is running: the source has no reason to wait"
            trial_function(task, report, lambda: None, shared_gpu=False)
