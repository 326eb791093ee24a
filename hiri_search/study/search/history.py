"""Search history: proposals and what became of them."""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass
from typing import Literal

import numpy as np

from hiri_search.cost.pareto import dominance
from hiri_search.language import Backbone
from hiri_search.language.space import Decisions


@dataclass(frozen=True)
class Proposal:
    """A network that the search asked for, and its outcome so far."""

    net: Backbone
    decisions: Decisions
    state: Literal["running", "finished", "stopped", "failed"] = "running"
    losses: tuple[float, ...] = ()  # of a finished network, by objective, minimised


class History(list[Proposal]):
    """All proposals in the order of asking; the methods keep indices of finished, running and non-dominated ones."""

    def __init__(self) -> None:
        self._finished: list[int] = []  # sorted positions
        self._front: list[int] = []  # sorted positions of the non-dominated proposals
        self._running: set[int] = set()

    def add(self, proposal: Proposal) -> None:
        """Append a proposal."""
        if proposal.state == "running":
            self._running.add(len(self))
        self.append(proposal)

    def update(self, position: int, proposal: Proposal) -> None:
        """Replace a running proposal by its new state; a finished proposal does not change any more."""
        self[position] = proposal
        if proposal.state != "running":
            self._running.discard(position)
        if proposal.state == "finished":
            insort(self._finished, position)
            self._update_front(position, proposal.losses)

    def _update_front(self, position: int, losses: tuple[float, ...]) -> None:
        points = np.array([self[member].losses for member in self._front]).reshape(-1, len(losses))
        point = np.array([losses])
        if not dominance(points, point).any():
            dominated = dominance(point, points)[0]
            self._front = sorted([position, *(p for p, out in zip(self._front, dominated, strict=True) if not out)])

    def on_front(self, position: int) -> bool:
        """Return whether a proposal has finished and no other dominates it."""
        index = bisect_left(self._front, position)
        return self._front[index : index + 1] == [position]

    def finished(self, *, last: int | None = None, best: int = 0) -> list[Proposal]:
        """Return the finished proposals in order: all, or the newest `last` and the newest `best` of the front."""
        if last is None:
            return [self[position] for position in self._finished]
        front = self._front[max(len(self._front) - best, 0) :]
        positions = {*front, *self._finished[max(self.finished_count - last, 0) :]}
        return [self[position] for position in sorted(positions)]

    def running(self) -> list[Proposal]:
        """Return the pending proposals, in order."""
        return [self[position] for position in sorted(self._running)]

    @property
    def finished_count(self) -> int:
        """Number of finished proposals."""
        return len(self._finished)
