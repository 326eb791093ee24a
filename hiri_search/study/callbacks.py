"""Progress callbacks of a running study, and callbacks of the user."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from copy import deepcopy
from typing import Protocol, Self

from hiri_search.study.ledger.trial import Trial
from hiri_search.user_code import named_object


class ProgressCallback(Protocol):
    """Receives messages and trials while a study runs."""

    def say(self, text: str) -> None:
        """Show a message to the user."""

    def on_trial(self, trial: Trial) -> None:
        """Show the state of a trial that has begun, ended an epoch, or ended."""


class Display(ProgressCallback, Protocol):
    """A progress callback that shows something between its beginning and its end."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *error: object) -> None: ...


class CallbackError(RuntimeError):
    """A callback of the user that raised an error."""


def call(callback: str, name: str, *values: object, **named: object) -> None:
    """Call a function of the user (module:name) as this callback, with copies: what it changes is its own.

    Raises CallbackError.
    """
    try:
        named_object(name)(*deepcopy(values), **deepcopy(named))
    except (Exception, SystemExit) as error:  # code of the user: whatever it raises is an error of the callback
        raise CallbackError(f"{callback}: {name} raised {type(error).__name__}: {error}") from error


def call_on_trial_end(names: Iterable[str], trial: Trial) -> Iterator[str]:
    """Call functions of the user (module:name) with a trial that has ended; yield a message for each that raises.

    The trial keeps its result, which is recorded already and may have decided what is trained next.
    """
    for name in names:
        try:
            call("on_trial_end", name, trial)
        except CallbackError as error:  # the study goes on
            yield f"trial {trial.number}: {error}; the trial keeps its result"
