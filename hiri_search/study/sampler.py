"""Samplers: what each is asked, and those that learn nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal, Protocol, TypeAlias

from hiri_search.language import Net, uniform
from hiri_search.study.unseen import Unseen, Walked, first

Costs: TypeAlias = Callable[[Net], Mapping[str, float]]
"""What a network costs, known before it is trained: values by objective."""


@dataclass(frozen=True)
class Proposal:
    """A network that was asked for, and what came of it."""

    net: Net
    decisions: Mapping[str, int]
    state: Literal["running", "finished", "stopped", "failed"] = "running"
    losses: tuple[float, ...] = ()  # of a finished one, by objective: the smaller the better


class Sampler(Protocol):
    """Says which network to train next.

    Nothing but what it is given decides the answer: so a search that was killed goes on as if it had not been.
    """

    def propose(self, unseen: Unseen, past: Sequence[Proposal]) -> Walked:
        """A network that was not asked for yet; there is one."""


def dice(seed: int, *about: int | str) -> Random:
    """Chance that depends on these alone, on every machine."""
    return Random(" ".join(map(str, (seed, *about))))


@dataclass(frozen=True)
class RandomSampler:
    """Every network that was not asked for as likely as any other."""

    seed: int

    def propose(self, unseen: Unseen, past: Sequence[Proposal]) -> Walked:
        rng = dice(self.seed, len(past))
        return unseen.recorded(uniform(rng), rng)


@dataclass(frozen=True)
class GridSampler:
    """In the order of the space's listing: the first of what is left."""

    def propose(self, unseen: Unseen, past: Sequence[Proposal]) -> Walked:
        return unseen.recorded(first, dice(0, len(past)))
