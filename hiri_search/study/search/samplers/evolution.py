"""Regularised evolution (Real et al. 2019) with several objectives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hiri_search.cost.pareto import rank_then_crowding
from hiri_search.language import uniform
from hiri_search.language.choosers import mutated
from hiri_search.language.space import Walked
from hiri_search.study.search.history import History
from hiri_search.study.search.samplers.simple import rng_for
from hiri_search.study.search.visited import UnvisitedSpace

POPULATION = 32  # networks: those that finished last
TOURNAMENT = 8  # members drawn from the population; the best of them is the parent


@dataclass(frozen=True)
class Evolution:
    """Mutates one decision of a tournament's winner; members are ranked by front, then by crowding distance."""

    seed: int

    def propose(self, unvisited: UnvisitedSpace, history: History) -> Walked:
        rng = rng_for(self.seed, len(history))
        population = history.finished(last=POPULATION)
        if len(history) < POPULATION or not population:
            return unvisited.walk(uniform(rng), rng)
        order = rank_then_crowding(np.array([proposal.losses for proposal in population]))
        parent = min(rng.choices(range(len(population)), k=TOURNAMENT), key=order.index)
        return unvisited.walk(mutated(population[parent].decisions, rng), rng)
