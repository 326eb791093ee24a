"""Progress callbacks of a running study."""

from __future__ import annotations

from typing import Protocol

from hiri_search.study.ledger.trial import Trial


class ProgressCallback(Protocol):
    """Looks on while a study runs."""

    def say(self, text: str) -> None:
        """Something the user should know."""

    def on_trial(self, trial: Trial) -> None:
        """A trial has begun, come to the end of an epoch, or ended."""
