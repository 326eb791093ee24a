"""Progress callbacks of a running study, and callbacks of the user."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from copy import deepcopy
from typing import Protocol

from hiri_search.study.ledger.trial import Trial
from hiri_search.user_code import named_object


class ProgressCallback(Protocol):
    """Receives messages and trials while a study runs."""

    def say(self, text: str) -> None:
        """Show a message to the user."""

    def on_trial(self, trial: Trial) -> None:
        """Show the state of a trial that has begun, ended an epoch, or ended."""


def call_on_trial_end(names: Iterable[str], trial: Trial) -> Iterator[str]:
    """Call functions of the user (module:name) with a trial that has ended; yield a message for each that raises.

    The trial keeps its result, which is recorded already and may have decided what is trained next.
    """
    for name in names:
        try:
            named_object(name)(deepcopy(trial))  # what the function changes is its own
        except (Exception, SystemExit) as error:  # code of the user: the study goes on
            what = f"on_trial_end: {name} raised {type(error).__name__}: {error}"
            yield f"trial {trial.number}: {what}; the trial keeps its result"
