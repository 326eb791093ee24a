"""Callbacks of Tune that fail. They are apart from the trial functions, whose module must not import Ray."""

from typing import Any

from ray.tune import Callback


class FailsAtTheEnd(Callback):
    """A callback of a user that fails at the end of a trial."""

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        raise OSError("the server does not answer")


class FailsAtTheBeginning(Callback):
    """A callback of a user that fails at the beginning of a trial."""

    def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        raise OSError("the server does not answer")
