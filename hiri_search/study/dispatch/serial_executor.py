"""Trials one after the other in this process."""

from __future__ import annotations

from contextlib import suppress

from hiri_search.study.dispatch.run_trial import work
from hiri_search.study.dispatch.task import Event, Feed, Task
from hiri_search.study.dispatch.worker import Left, Work
from hiri_search.system.shutdown import Shutdown


def serial(feed: Feed, leaving: Shutdown | None = None, *, do: Work = work) -> None:
    """One trial after the other, in this process; `timeout` has no meaning here."""
    leaving = leaving or Shutdown()

    def tell(event: Event) -> None:
        feed.heard(event)
        if event["event"] == "epoch" and leaving.asked:
            raise Left

    with leaving.epochs_running(), suppress(Left):
        while not leaving.asked and (task := feed.next()):
            assert isinstance(task, Task), "nothing is at work that could be waited for"
            do(task, tell, lambda: None, beside_others=False)
