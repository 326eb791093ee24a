"""The Sampler protocol, and random and grid search."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Protocol, TypeAlias

from hiri_search.language import Backbone, uniform
from hiri_search.language.choosers import first, noting
from hiri_search.language.space import Decisions, Walked
from hiri_search.study.search.history import History
from hiri_search.study.search.visited import UnvisitedSpace

CostFunction: TypeAlias = Callable[[Backbone], Mapping[str, float]]
"""Returns the costs of an untrained network by objective; SpecError where it cannot be counted."""


class Sampler(Protocol):
    """Proposes the next network from its arguments alone, so that a restarted search proposes the same networks."""

    def propose(self, unvisited: UnvisitedSpace, history: History) -> Walked:
        """Return an unvisited network; at least one exists."""


def rng_for(seed: int, *purpose: int | str) -> Random:
    """Return a random generator that depends on the arguments alone, on every machine."""
    return Random(" ".join(map(str, (seed, *purpose))))


@dataclass(frozen=True)
class RandomSampler:
    """Uniform sampling of the unvisited networks."""

    seed: int

    def propose(self, unvisited: UnvisitedSpace, history: History) -> Walked:
        rng = rng_for(self.seed, len(history))
        return unvisited.walk(uniform(rng), rng)


@dataclass(frozen=True)
class StartSampler:
    """Proposes given networks first, in their order, and then as another sampler, which sees them in the history."""

    start: tuple[Decisions, ...]
    sampler: Sampler

    def propose(self, unvisited: UnvisitedSpace, history: History) -> Walked:
        if len(history) < len(self.start):
            return unvisited.walk(noting({}, self.start[len(history)]), rng_for(0, len(history)))
        return self.sampler.propose(unvisited, history)


@dataclass(frozen=True)
class GridSampler:
    """Grid search: the first unvisited network in the order of the space's listing."""

    def propose(self, unvisited: UnvisitedSpace, history: History) -> Walked:
        return unvisited.walk(first, rng_for(0, len(history)))
