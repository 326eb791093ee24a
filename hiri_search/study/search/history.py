"""Search history: proposals and what became of them."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, overload

import numpy as np

from hiri_search.cost.pareto import dominance
from hiri_search.language import Net


@dataclass(frozen=True)
class Proposal:
    """A network that was asked for, and what came of it."""

    net: Net
    decisions: Mapping[str, int]
    state: Literal["running", "finished", "stopped", "failed"] = "running"
    losses: tuple[float, ...] = ()  # of a finished one, by objective: the smaller the better


class History(Sequence[Proposal]):
    """All that was asked for, in its order; what finished is at hand without a walk through all."""

    def __init__(self) -> None:
        self._all: list[Proposal] = []
        self._finished: list[int] = []  # places, in order
        self._front: list[int] = []  # places of those that no other beats, in order
        self._running: set[int] = set()

    @overload
    def __getitem__(self, place: int) -> Proposal: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Proposal]: ...
    def __getitem__(self, place: int | slice) -> Proposal | Sequence[Proposal]:
        return self._all[place]

    def __len__(self) -> int:
        return len(self._all)

    def add(self, proposal: Proposal) -> None:
        """One more."""
        if proposal.state == "running":
            self._running.add(len(self._all))
        self._all.append(proposal)

    def learn(self, place: int, proposal: Proposal) -> None:
        """What has become of one; one that has finished does not change any more."""
        self._all[place] = proposal
        if proposal.state != "running":
            self._running.discard(place)
        if proposal.state == "finished":
            insort(self._finished, place)
            self._enter_front(place, proposal.losses)

    def _enter_front(self, place: int, losses: tuple[float, ...]) -> None:
        points = np.array([self._all[other].losses for other in self._front]).reshape(-1, len(losses))
        point = np.array([losses])
        if not dominance(points, point).any():
            beaten = dominance(point, points)[0]
            self._front = sorted([place, *(p for p, out in zip(self._front, beaten, strict=True) if not out)])

    def on_front(self, place: int) -> bool:
        """Whether it finished, and no other beats it."""
        index = bisect_left(self._front, place)
        return self._front[index : index + 1] == [place]

    def finished(self, *, last: int | None = None, best: int = 0) -> list[Proposal]:
        """Those that finished, in their order: all, or the last so many, and the last so many of the front."""
        if last is None:
            return [self._all[place] for place in self._finished]
        places = {*self._front[max(len(self._front) - best, 0) :], *self._finished[max(self.done - last, 0) :]}
        return [self._all[place] for place in sorted(places)]

    def running(self) -> list[Proposal]:
        """Those that nothing is known of yet, in their order."""
        return [self._all[place] for place in sorted(self._running)]

    @property
    def done(self) -> int:
        """How many finished."""
        return len(self._finished)
