"""Tables of a search: hypervolume over trials, confirmed networks, zero-cost scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from hiri_search.cost.pareto import Points, hypervolume, pareto_mask
from hiri_search.report.tables.networks import ranks
from hiri_search.report.tables.results import Results
from hiri_search.stats.rank_correlation import Tau, kendall_tau
from hiri_search.stats.significance import mean_interval
from hiri_search.study.ledger.trial import ZERO_COST_PREFIX
from hiri_search.study.search.samplers.bayesian import REFERENCE_MARGIN
from hiri_search.system.units import GIGA, MEGA
from hiri_search.training.score import Score

SHORT = "short_"  # prefix of columns of the short trainings
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


def confirmed_table(results: Results) -> pd.DataFrame:
    """Return one row for each confirmed network and length: score and rank of the short training and the confirmation.

    Trainings of unlike lengths are never averaged; `rank` is among confirmations of one length.
    """
    long = pd.DataFrame(_finished(results.confirmations))
    if long.empty:
        return pd.DataFrame()
    short = pd.DataFrame(_finished(results.first_trainings))
    alike = ["name", "epochs"]  # by name: a merge of unlike searches has two networks of one key
    score = results.score
    scores = long.groupby(alike, sort=False)[score.name]
    facts = long.drop_duplicates(alike).set_index(alike, drop=False)
    intervals = {key: interval for key, values in scores if (interval := mean_interval(values))}
    table = pd.DataFrame(
        {
            "name": facts["name"],
            "params_m": (facts["params"] / MEGA).round(3),
            "gflops": (facts["macs"] / GIGA).round(3),
            "short_epochs": facts["name"].map(short.groupby("name")["epochs"].max()).astype("Int64"),
            SHORT + score.name: facts["name"].map(short.groupby("name")[score.name].mean()).round(score.digits),
            "epochs": facts["epochs"],
            score.name: scores.mean().round(score.digits),
            "spread": scores.std().round(score.digits),
            "low": pd.Series({key: interval.low for key, interval in intervals.items()}, dtype="float64").round(
                score.digits
            ),
            "high": pd.Series({key: interval.high for key, interval in intervals.items()}, dtype="float64").round(
                score.digits
            ),
            "seeds": scores.count(),
            "trained_spec": facts["trained_spec"],
        }
    )
    lengths = table.groupby("epochs", sort=False, group_keys=False)
    ranked = {
        f"{prefix}rank": lengths[prefix + score.name].transform(ranks, up=score.up).astype("Int64")
        for prefix in (SHORT, "")
    }
    return table.assign(**ranked).sort_values(["gflops", "epochs"]).reset_index(drop=True)


def rank_agreement(table: pd.DataFrame, score: Score) -> str:
    """Return a sentence for each length of confirmation: whether it orders the networks as the short trainings do."""
    lengths = [rows for _, rows in table.groupby("epochs")] if len(table) else [table]
    if len(lengths) == 1:
        return _agreement(table, score)
    return " ".join(f"After {rows['epochs'].iloc[0]} epochs: {_agreement(rows, score)}" for rows in lengths)


def _agreement(table: pd.DataFrame, score: Score) -> str:
    tau = kendall_tau(table[SHORT + score.name], table[score.name]) if len(table) else None
    if tau is None:
        return "Too few networks were confirmed to compare the order of the short trainings with the confirmations."
    return f"Kendall's tau of short trainings and confirmations over {len(table)} networks: {tau}. {_verdict(tau)}"


def _verdict(tau: Tau) -> str:
    if tau.low > 0:
        return "The short trainings order the networks better than chance."
    return "The interval contains 0: the confirmations do not show that the short trainings order the networks."


def zero_cost_table(results: Results) -> pd.DataFrame:
    """Return Kendall's tau of each zero-cost score, and of the costs, with how good the short trainings are."""
    rows = _finished(results.first_trainings)
    names = {
        name: name.removeprefix(ZERO_COST_PREFIX) for row in rows for name in row if name.startswith(ZERO_COST_PREFIX)
    }
    if not names:
        return pd.DataFrame()
    lines = [
        (label, *_tau(rows, name, results.score))
        for name, label in {**names, "params": "params", "macs": "macs"}.items()
    ]
    return pd.DataFrame(lines, columns=["score", "networks", "tau", "low", "high"])


def _finished(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [row for row in rows if row["state"] == "finished"]


def _tau(rows: Sequence[Mapping[str, Any]], name: str, score: Score) -> tuple[float, ...]:
    scored = [(row[name], -score.loss_sign * row[score.name]) for row in rows if row.get(name) is not None]
    tau = kendall_tau(*zip(*scored, strict=True)) if scored else None
    return (len(scored), tau.value, tau.low, tau.high) if tau else (len(scored), np.nan, np.nan, np.nan)
