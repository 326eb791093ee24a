"""Tables of a search: hypervolume over trials, zero-cost scores."""

from __future__ import annotations

import numpy as np
import pandas as pd

from hiri_search.cost.pareto import Points, hypervolume, pareto_mask
from hiri_search.report.tables.results import Results, finished_rows
from hiri_search.stats.rank_correlation import kendall_tau
from hiri_search.study.ledger.trial import ZERO_COST_PREFIX
from hiri_search.study.search.samplers.bayesian import REFERENCE_MARGIN
from hiri_search.training.score import Score

MIN_RANGE = 1e-9  # of a loss that is the same for all networks


def volume_table(results: Results) -> pd.DataFrame:
    """Return the dominated hypervolume after each finished trial, as a share of the final hypervolume.

    The reference point is a tenth of the range worse than the worst network, in each objective.
    """
    if not results.losses:
        return pd.DataFrame(columns=["trials", "share"])
    points = np.array(results.losses)
    worst, best = points.max(axis=0), points.min(axis=0)
    volumes = _hypervolumes(points, worst + REFERENCE_MARGIN * np.maximum(worst - best, MIN_RANGE))
    return pd.DataFrame({"trials": range(1, len(points) + 1), "share": volumes / volumes[-1]})


def _hypervolumes(points: Points, reference: Points) -> Points:
    """Return the hypervolume after each point.

    A non-dominated point adds the volume of its box, less the part of this box that earlier points dominate.
    """
    front, volume, volumes = points[:0], 0.0, []
    for point in points:
        if not (front <= point).all(axis=1).any():
            clipped = np.unique(np.maximum(front, point), axis=0)
            volume += float(np.prod(reference - point)) - hypervolume(clipped[pareto_mask(clipped)], list(reference))
            front = np.vstack([front[~(point <= front).all(axis=1)], point])
        volumes.append(volume)
    return np.array(volumes)


def zero_cost_table(results: Results) -> pd.DataFrame:
    """Return Kendall's tau of each zero-cost score, and of the costs, with how good the short trainings are.

    Seeds of a network are averaged: they are no networks of their own.
    """
    trials = pd.DataFrame(finished_rows(results.first_trainings))
    names = {
        name: name.removeprefix(ZERO_COST_PREFIX) for name in map(str, trials) if name.startswith(ZERO_COST_PREFIX)
    }
    if not names:
        return pd.DataFrame()
    predictors = {**names, "params": "params", "macs": "macs"}
    lines = [(label, *_tau(trials, name, results.score)) for name, label in predictors.items()]
    return pd.DataFrame(lines, columns=["score", "networks", "tau", "low", "high"])


def _tau(trials: pd.DataFrame, name: str, score: Score) -> tuple[float, ...]:
    networks = trials[["name", name, score.name]].dropna().groupby("name").mean()
    tau = kendall_tau(networks[name], -score.loss_sign * networks[score.name]) if len(networks) else None
    return (len(networks), tau.value, tau.low, tau.high) if tau else (len(networks), np.nan, np.nan, np.nan)
