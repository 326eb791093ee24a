"""Bayesian optimisation: Gaussian-process surrogate, expected hypervolume improvement (EHVI)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import erf, pi, sqrt
from random import Random

import numpy as np

from hiri_search.cost.pareto import Points, nondominated_boxes, pareto_mask
from hiri_search.language import uniform
from hiri_search.language.choosers import mutated
from hiri_search.language.space import Walked
from hiri_search.study.search.history import History, Proposal
from hiri_search.study.search.samplers.gaussian_process import GaussianProcess, encode_walks
from hiri_search.study.search.samplers.simple import CostFunction, rng_for
from hiri_search.study.search.visited import UnvisitedSpace

INITIAL_TRIALS = 8  # networks spread over the costs, before anything is predicted
MUTANTS, RANDOM_CANDIDATES = 64, 16  # that are looked at for each that is asked for
MAX_OBSERVATIONS = 500  # finished networks that a prediction is made from
REFERENCE_MARGIN = 0.1  # how far the reference point lies beyond the worst, over the range


@dataclass(frozen=True)
class BayesianSampler:
    """Expected gain of hypervolume, from exact costs and predicted accuracies."""

    seed: int
    objectives: tuple[str, ...]
    costs: CostFunction

    def propose(self, unseen: UnvisitedSpace, past: History) -> Walked:
        rng = rng_for(self.seed, len(past))
        if len(past) < INITIAL_TRIALS or past.done < 2:
            return self._spread(unseen, len(past), rng)
        # Where there are too many to predict from: those on the front and the last ones.
        known = (
            past.finished(last=MAX_OBSERVATIONS // 2, best=MAX_OBSERVATIONS // 2)
            if past.done > MAX_OBSERVATIONS
            else past.finished()
        )
        running = past.running()
        pool = self._pool(unseen, known, rng)
        walks = [*((p.net, dict(p.decisions)) for p in (*known, *running)), *pool]
        losses = np.array([proposal.losses for proposal in known])
        gains = self._gains(unseen, walks, losses, len(running))
        return pool[int(np.argmax(gains))]

    def _spread(self, unseen: UnvisitedSpace, number: int, rng: Random) -> Walked:
        """Of many by chance one by its cost: the dearest and the cheapest, then halving what is between."""
        pool = sorted(_different(unseen.walk(uniform(rng), rng) for _ in range(MUTANTS)), key=self._cost)
        return pool[round(van_der_corput(number) * (len(pool) - 1))]

    def _cost(self, walked: Walked) -> tuple[float, ...]:
        """Those that are objectives, before others."""
        costs = self.costs(walked[0])
        return tuple(costs[name] for name in sorted(costs, key=lambda name: name not in self.objectives))

    def _pool(self, unseen: UnvisitedSpace, known: Sequence[Proposal], rng: Random) -> list[Walked]:
        front = pareto_mask(np.array([proposal.losses for proposal in known]))
        parents = [proposal for proposal, best in zip(known, front, strict=True) if best and proposal.decisions]
        children = (unseen.walk(mutated(rng.choice(parents).decisions, rng), rng) for _ in range(MUTANTS))
        strangers = (unseen.walk(uniform(rng), rng) for _ in range(RANDOM_CANDIDATES))
        return _different([*children, *strangers])

    def _gains(self, unseen: UnvisitedSpace, walks: Sequence[Walked], losses: Points, running: int) -> Points:
        """Of each walk behind those that finished, with these losses, and those that run."""
        known = len(losses)
        costs = [self.costs(net) for net, _ in walks]
        logs = np.log(np.maximum([list(cost.values()) for cost in costs], 1e-9))
        features = encode_walks([decisions for _, decisions in walks], unseen.options, logs, known)
        means, deviations = np.zeros((2, len(walks) - known, losses.shape[1]))
        for column, name in enumerate(self.objectives):
            if name in costs[0]:
                means[:, column] = [cost[name] for cost in costs[known:]]
            else:
                process = GaussianProcess.fit(features[:known], losses[:, column])
                # What runs is taken to come to what is predicted: so nothing is asked for next to it.
                process = process.with_pending(features[known : known + running])
                means[:, column], deviations[:, column] = process.predict(features[known:])
        worst, best = losses.max(axis=0), losses.min(axis=0)
        reference = worst + REFERENCE_MARGIN * (worst - best)
        front = np.concatenate([losses, means[:running]])
        return expected_improvements(front[pareto_mask(front)], reference, means[running:], deviations[running:])


def expected_improvements(front: Points, reference: Points, means: Points, deviations: Points) -> Points:
    """By how much each of some uncertain points, (points, objectives), is expected to widen what the front dominates.

    Exact for independent normal distributions: a sum over boxes of products over objectives.
    """
    boxes = np.array(list(nondominated_boxes(front, list(reference))))  # (boxes, objectives, 2)
    total = np.ones((len(means), len(boxes)))
    for column in range(len(reference)):
        levels, places = np.unique(boxes[:, column], return_inverse=True)
        below = _expected_below(levels[None], means[:, column, None], deviations[:, column, None])
        low, high = places.reshape(-1, 2).T
        total *= below[:, high] - below[:, low]
    gains: Points = total.sum(axis=1)
    return gains


def _expected_below(level: Points, mean: Points, deviation: Points) -> Points:
    """By how much a normal distribution is expected to lie below a level; 0 for a level of -inf."""
    finite = np.where(np.isinf(level), 0.0, level) - mean
    spread = np.maximum(deviation, 1e-12)
    z = finite / spread
    below = finite * 0.5 * (1 + _erf(z / sqrt(2))) + spread * np.exp(-z * z / 2) / sqrt(2 * pi)
    return np.where(np.isinf(level), 0.0, np.where(deviation > 0, below, np.maximum(finite, 0.0)))


def _erf(values: Points) -> Points:  # numpy has none
    return np.fromiter(map(erf, values.flat), float, values.size).reshape(values.shape)


def _different(walks: Iterable[Walked]) -> list[Walked]:
    return list({net.key: (net, decisions) for net, decisions in walks}.values())


def van_der_corput(number: int) -> float:
    """1, 0, 1/2, 1/4, 3/4, 1/8, ...: any first few lie evenly."""
    if number < 2:
        return 1.0 - number
    step = 1 << (number - 1).bit_length()
    return (2 * (number - 1) - step + 1) / step
