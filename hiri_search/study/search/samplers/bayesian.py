"""Bayesian optimisation: Gaussian-process surrogate, expected hypervolume improvement (EHVI)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import pi, sqrt
from random import Random

import numpy as np
from scipy.special import erf

from hiri_search.cost.pareto import Points, nondominated_boxes, pareto_mask
from hiri_search.language import SpecError, uniform
from hiri_search.language.choosers import mutated
from hiri_search.language.space import Walked
from hiri_search.study.config.choices import recipe_decisions
from hiri_search.study.search.history import History, Proposal
from hiri_search.study.search.samplers.gaussian_process import GaussianProcess, encode_walks
from hiri_search.study.search.samplers.simple import CostFunction, rng_for
from hiri_search.study.search.visited import UnvisitedSpace

INITIAL_TRIALS = 8  # networks spread over the costs, before the surrogate is used
MUTANTS, RANDOM_CANDIDATES = 64, 16  # candidates of each proposal
MAX_OBSERVATIONS = 500  # finished networks that the surrogate is fitted to
REFERENCE_MARGIN = 0.1  # distance of the reference point beyond the worst losses, as a share of their range


@dataclass(frozen=True)
class BayesianSampler:
    """Proposes the candidate with the largest EHVI; costs are exact, other objectives are predicted."""

    seed: int
    objectives: tuple[str, ...]
    costs_of: CostFunction

    def propose(self, unvisited: UnvisitedSpace, history: History) -> Walked:
        rng = rng_for(self.seed, len(history))
        if len(history) < INITIAL_TRIALS or history.finished_count < 2:
            return self._initial(unvisited, len(history), rng)
        half = MAX_OBSERVATIONS // 2
        subset = history.finished_count > MAX_OBSERVATIONS
        finished = history.finished(last=half, best=half) if subset else history.finished()
        running = history.running()
        drawn = self._pool(unvisited, finished, rng)
        if not (pool := self._counted(drawn)):
            return drawn[0]
        walks = [*((p.net, dict(p.decisions)) for p in (*finished, *running)), *pool]
        losses = np.array([proposal.losses for proposal in finished])
        acquisition = self._acquisition(unvisited, walks, losses, len(running))
        return pool[int(np.argmax(acquisition))]

    def _initial(self, unvisited: UnvisitedSpace, number: int, rng: Random) -> Walked:
        """Return one of many random networks by its cost: the most expensive, the cheapest, then bisecting."""
        drawn = _distinct(unvisited.walk(uniform(rng), rng) for _ in range(MUTANTS))
        if not (pool := sorted(self._counted(drawn), key=self._sort_key)):
            return drawn[0]
        return pool[round(van_der_corput(number) * (len(pool) - 1))]

    def _counted(self, walks: Iterable[Walked]) -> list[Walked]:
        """Return the networks that can be counted; a search skips the others, whichever sampler proposes them."""
        counted = []
        for walked in walks:
            with suppress(SpecError):
                self.costs_of(walked[0])
                counted.append(walked)
        return counted

    def _sort_key(self, walked: Walked) -> tuple[float, ...]:
        """Return the costs of a network, those that are objectives first."""
        costs = self.costs_of(walked[0])
        return tuple(costs[name] for name in sorted(costs, key=lambda name: name not in self.objectives))

    def _pool(self, unvisited: UnvisitedSpace, finished: Sequence[Proposal], rng: Random) -> list[Walked]:
        """Return the candidates: mutants of the Pareto front, and random networks."""
        front = pareto_mask(np.array([proposal.losses for proposal in finished]))
        parents = [proposal for proposal, best in zip(finished, front, strict=True) if best and proposal.decisions]
        mutants = (unvisited.walk(mutated(rng.choice(parents).decisions, rng), rng) for _ in range(MUTANTS))
        random = (unvisited.walk(uniform(rng), rng) for _ in range(RANDOM_CANDIDATES))
        return _distinct([*mutants, *random])

    def _acquisition(self, unvisited: UnvisitedSpace, walks: Sequence[Walked], losses: Points, running: int) -> Points:
        """Return the EHVI of the candidates; `walks` are the finished networks of `losses`, then running, then pool."""
        finished = len(losses)
        costs = [self.costs_of(net) for net, _ in walks]
        logs = np.log(np.maximum([list(cost.values()) for cost in costs], 1e-9))
        features = encode_walks([decisions for _, decisions in walks], unvisited.options, logs, finished)
        means, deviations = np.zeros((2, len(walks) - finished, losses.shape[1]))
        for column, name in enumerate(self.objectives):
            if name in costs[0]:
                means[:, column] = [cost[name] for cost in costs[finished:]]
            else:
                process = GaussianProcess.fit(features[:finished], losses[:, column])
                # Pending trials count as observed at their prediction, so that their neighbours are not proposed.
                process = process.with_pending(features[finished : finished + running])
                means[:, column], deviations[:, column] = process.predict(features[finished:])
        worst, best = losses.max(axis=0), losses.min(axis=0)
        reference = worst + REFERENCE_MARGIN * (worst - best)
        front = np.concatenate([losses, means[:running]])
        return expected_improvements(front[pareto_mask(front)], reference, means[running:], deviations[running:])


def expected_improvements(front: Points, reference: Points, means: Points, deviations: Points) -> Points:
    """Return the expected hypervolume improvement of uncertain points (points, objectives) over a Pareto front.

    Exact for independent normal distributions: a sum over boxes of products over objectives.
    """
    boxes = np.array(list(nondominated_boxes(front, list(reference))))  # (boxes, objectives, 2)
    total = np.ones((len(means), len(boxes)))
    for column in range(len(reference)):
        levels, places = np.unique(boxes[:, column], return_inverse=True)
        below = _expected_below(levels[None], means[:, column, None], deviations[:, column, None])
        low, high = places.reshape(-1, 2).T
        total *= below[:, high] - below[:, low]
    improvements: Points = total.sum(axis=1)
    return improvements


def _expected_below(level: Points, mean: Points, deviation: Points) -> Points:
    """Return E[max(level - X, 0)] of a normal variable X; 0 for a level of -inf."""
    margin = np.where(np.isinf(level), 0.0, level) - mean
    spread = np.maximum(deviation, 1e-12)
    z = margin / spread
    below = margin * 0.5 * (1 + erf(z / sqrt(2))) + spread * np.exp(-z * z / 2) / sqrt(2 * pi)
    return np.where(np.isinf(level), 0.0, np.where(deviation > 0, below, np.maximum(margin, 0.0)))


def _distinct(walks: Iterable[Walked]) -> list[Walked]:
    distinct = {(net.key, *recipe_decisions(decisions).items()): (net, decisions) for net, decisions in walks}
    return list(distinct.values())


def van_der_corput(number: int) -> float:
    """Return the n-th number of 1, 0, 1/2, 1/4, 3/4, 1/8, ...: any first few are spread evenly."""
    if number < 2:
        return 1.0 - number
    step = 1 << (number - 1).bit_length()
    return (2 * (number - 1) - step + 1) / step
