"""Regularised evolution: the old die, whatever they were worth (Real et al. 2019), with several objectives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hiri_search.cost.front import Points, dominance
from hiri_search.language import uniform
from hiri_search.study.sampler import Proposal, dice
from hiri_search.study.unseen import Unseen, Walked, mutated

POPULATION = 32  # the last so many that finished
TOURNAMENT = 8  # of them compete to be the parent


@dataclass(frozen=True)
class Evolution:
    """A child of the best of a few, one decision changed."""

    seed: int

    def propose(self, unseen: Unseen, past: Sequence[Proposal]) -> Walked:
        rng = dice(self.seed, len(past))
        living = [proposal for proposal in past if proposal.state == "finished"][-POPULATION:]
        if len(past) < POPULATION or not living:
            return unseen.recorded(uniform(rng), rng)
        order = ranking(np.array([proposal.losses for proposal in living]))
        parent = min(rng.choices(range(len(living)), k=TOURNAMENT), key=order.__getitem__)
        return unseen.recorded(mutated(living[parent].decisions, rng), rng)


def ranking(points: Points) -> list[int]:
    """The place of each point: by the front it is on, then by how alone it is there (Deb et al. 2002)."""
    ranks = fronts(points)
    alone = np.zeros(len(points))
    for rank in np.unique(ranks):
        alone[ranks == rank] = loneliness(points[ranks == rank])
    order = np.lexsort((-alone, ranks))
    return [int(place) for place in np.argsort(order, kind="stable")]


def fronts(points: Points) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """0 for a point that no other beats, 1 for one that only such beat, and so on."""
    beats = dominance(points)
    ranks = np.full(len(points), -1)
    for rank in range(len(points)):
        left = ranks < 0
        ranks[left & ~beats[left].any(axis=0)] = rank
    return ranks


def loneliness(points: Points) -> Points:
    """The crowding distance: how far the neighbours on both sides lie apart, over the objectives."""
    total = np.zeros(len(points))
    for column in points.T:
        order = np.argsort(column, kind="stable")
        ordered = column[order]
        spread = ordered[-1] - ordered[0] or 1.0
        total[order[1:-1]] += (ordered[2:] - ordered[:-2]) / spread
        total[order[[0, -1]]] = np.inf
    return total
