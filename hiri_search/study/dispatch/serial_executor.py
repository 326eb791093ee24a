"""Trials one after the other in this process."""

from __future__ import annotations

from contextlib import suppress

from hiri_search.study.dispatch.run_trial import run_trial
from hiri_search.study.dispatch.task import TrialSource, TrialTask
from hiri_search.study.dispatch.worker import TrialFunction, TrialInterrupted
from hiri_search.study.ledger.events import EpochEnded, TrialEvent
from hiri_search.system.shutdown import Shutdown


def run_serially(feed: TrialSource, leaving: Shutdown | None = None, *, do: TrialFunction = run_trial) -> None:
    """One trial after the other, in this process; `timeout` has no meaning here."""
    leaving = leaving or Shutdown()

    def tell(event: TrialEvent) -> None:
        feed.on_event(event)
        if isinstance(event, EpochEnded) and leaving.requested:
            raise TrialInterrupted

    with leaving.epochs_running(), suppress(TrialInterrupted):
        while not leaving.requested and (task := feed.next()):
            assert isinstance(task, TrialTask), "nothing is at work that could be waited for"
            do(task, tell, lambda: None, beside_others=False)
