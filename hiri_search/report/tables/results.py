"""Results: what the report needs of a ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, eq=False)  # hashed by what it is, not by what it holds: what is made of it can be kept
class Results:
    """What a ledger holds, as the report needs it."""

    about: Mapping[str, Any]  # the last "study" event
    trials: Sequence[Mapping[str, Any]]  # one flat row for each trial
    counted: Sequence[Mapping[str, Any]] = ()  # the networks of an ablation, trained or not, with their costs
    timed: Sequence[Mapping[str, Any]] = ()  # inference: key, side, ms_per_image, spread, batch, ...
    losses: Sequence[tuple[float, ...]] = ()  # of a search's finished trials, by objective: the smaller the better
    decisions: Mapping[int, Mapping[str, int | str]] = field(default_factory=dict)  # of a search, by trial
    importances: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # of decisions, by objective
    planned: Sequence[tuple[str, float, float]] = ()  # part of the run, seconds planned, seconds that it took
    times: tuple[float, float] | None = None  # of the first and the last line, seconds since 1970

    @property
    def first_trainings(self) -> list[Mapping[str, Any]]:
        """The trials of the study's own recipe."""
        return [row for row in self.trials if row.get("confirms") is None]

    @property
    def confirmations(self) -> list[Mapping[str, Any]]:
        """The longer trials of a search's best networks."""
        return [row for row in self.trials if row.get("confirms") is not None]
