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

POPULATION = 32  # the last so many that finished
TOURNAMENT = 8  # of them compete to be the parent


@dataclass(frozen=True)
class Evolution:
    """A child of the best of a few, one decision changed."""

    seed: int

    def propose(self, unseen: UnvisitedSpace, past: History) -> Walked:
        rng = rng_for(self.seed, len(past))
        living = past.finished(last=POPULATION)
        if len(past) < POPULATION or not living:
            return unseen.walk(uniform(rng), rng)
        order = rank_then_crowding(np.array([proposal.losses for proposal in living]))
        parent = min(rng.choices(range(len(living)), k=TOURNAMENT), key=order.index)
        return unseen.walk(mutated(living[parent].decisions, rng), rng)
