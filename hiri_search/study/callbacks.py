"""Progress callbacks of a running study."""

from __future__ import annotations

from typing import Protocol

from hiri_search.study.ledger.trial import Trial


class ProgressCallback(Protocol):
    """Receives messages and trials while a study runs."""

    def say(self, text: str) -> None:
        """Show a message to the user."""

    def on_trial(self, trial: Trial) -> None:
        """Show the state of a trial that has begun, ended an epoch, or ended."""
