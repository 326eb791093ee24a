"""The Sampler protocol, and random and grid search."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Protocol, TypeAlias

from hiri_search.language import Net, uniform
from hiri_search.language.choosers import first
from hiri_search.language.space import Walked
from hiri_search.study.search.history import History
from hiri_search.study.search.visited import UnvisitedSpace

CostFunction: TypeAlias = Callable[[Net], Mapping[str, float]]
"""What a network costs, known before it is trained: values by objective."""


class Sampler(Protocol):
    """Says which network to train next.

    Nothing but what it is given decides the answer: so a search that was killed goes on as if it had not been.
    """

    def propose(self, unseen: UnvisitedSpace, past: History) -> Walked:
        """A network that was not asked for yet; there is one."""


def rng_for(seed: int, *about: int | str) -> Random:
    """Chance that depends on these alone, on every machine."""
    return Random(" ".join(map(str, (seed, *about))))


@dataclass(frozen=True)
class RandomSampler:
    """Every network that was not asked for as likely as any other."""

    seed: int

    def propose(self, unseen: UnvisitedSpace, past: History) -> Walked:
        rng = rng_for(self.seed, len(past))
        return unseen.walk(uniform(rng), rng)


@dataclass(frozen=True)
class GridSampler:
    """In the order of the space's listing: the first of what is left."""

    def propose(self, unseen: UnvisitedSpace, past: History) -> Walked:
        return unseen.walk(first, rng_for(0, len(past)))
