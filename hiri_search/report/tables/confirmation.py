"""Tables of a confirmation: the confirmed networks, and how well short trainings and costs order them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

import pandas as pd

from hiri_search.report.tables.networks import ranks
from hiri_search.report.tables.order import ORDER_COLUMNS, order_columns
from hiri_search.report.tables.results import Results, finished_rows
from hiri_search.stats.order_verdict import OrderVerdict
from hiri_search.stats.rank_correlation import (
    LIKE_COST,
    MIN_LIKE_ITEMS,
    MIN_TAU_BEYOND_COST,
    BeyondCost,
    Tau,
    kendall_tau,
    tau_beyond_cost,
)
from hiri_search.stats.significance import mean_interval
from hiri_search.system.units import GIGA, MEGA

SHORT = "short_"  # prefix of columns of the short trainings
SHORT_TRAININGS = "short trainings"
VERDICTS = {
    OrderVerdict.PASSES: "The short trainings pass: they order networks of like cost as the confirmations do.",
    OrderVerdict.WEAK: "Weak: the short trainings order networks of like cost better than chance, but this tau is below"
    f" {MIN_TAU_BEYOND_COST}.",
    OrderVerdict.FAILS: "The short trainings fail: the confirmations do not show that they order networks of like cost"
    " better than chance.",
}


def confirmed_table(results: Results) -> pd.DataFrame:
    """Return one row for each confirmed network and length: score and rank of the short training and the confirmation.

    Short trainings have the validation score, by which they were chosen; confirmations the test score where there is
    one, so that both do not share the chance of the same images. Trainings of unlike lengths are never averaged; `rank`
    is among confirmations of one length.
    """
    means = _means(results)
    if means.empty:
        return pd.DataFrame()
    score, short = results.score, SHORT + results.curve_score.name
    table = pd.DataFrame(
        {
            "name": means["name"],
            "params_m": (means["params"] / MEGA).round(3),
            "gflops": (means["macs"] / GIGA).round(3),
            "short_epochs": means["short_epochs"],
            short: means[short].round(score.digits),
            "epochs": means["epochs"],
            score.name: means[score.name].round(score.digits),
            **{name: means[name].round(score.digits) for name in ("spread", "low", "high")},
            "seeds": means["seeds"],
            "trained_spec": means["trained_spec"],
        }
    )
    lengths, columns = (
        table.groupby("epochs", sort=False, group_keys=False),
        {f"{SHORT}rank": short, "rank": score.name},
    )
    ranked = {name: lengths[column].transform(ranks, up=score.up).astype("Int64") for name, column in columns.items()}
    return table.assign(**ranked).sort_values(["gflops", "epochs"]).reset_index(drop=True)


def _means(results: Results) -> pd.DataFrame:
    """Return the means over seeds of each confirmed network and length, not rounded, in the order of the trials."""
    long = pd.DataFrame(finished_rows(results.confirmations))
    if long.empty:
        return long
    short, score = pd.DataFrame(finished_rows(results.first_trainings)).groupby("name"), results.score.name
    validated = results.curve_score.name
    alike = ["name", "epochs"]  # by name: a merge of unlike searches has two networks of one key
    scores = long.groupby(alike, sort=False)[score]
    facts = long.drop_duplicates(alike).set_index(alike, drop=False)
    intervals = {key: interval for key, values in scores if (interval := mean_interval(values))}
    ends = {end: {key: getattr(interval, end) for key, interval in intervals.items()} for end in ("low", "high")}
    columns = {
        "short_epochs": facts["name"].map(short["epochs"].max()).astype("Int64"),
        SHORT + validated: facts["name"].map(short[validated].mean()),
        score: scores.mean(),
        "spread": scores.std(),
        **{end: pd.Series(values, dtype="float64") for end, values in ends.items()},
        "seeds": scores.count(),
    }
    return facts[["name", "epochs", "params", "macs", "trained_spec"]].assign(**columns).reset_index(drop=True)


@dataclass(frozen=True)
class _Order:
    """The agreement of an order of the confirmed networks, by short trainings or by cost, with the confirmations."""

    epochs: int  # of the confirmations
    name: str
    scores: pd.Series  # by which the order is
    long: pd.Series
    gflops: pd.Series

    @cached_property
    def tau(self) -> Tau | None:
        return kendall_tau(self.scores, self.long)

    @cached_property
    def beyond(self) -> BeyondCost | None:
        return tau_beyond_cost(self.scores, self.long, self.gflops)

    @property
    def verdict(self) -> OrderVerdict:
        return self.beyond.verdict if self.beyond else OrderVerdict.TOO_FEW


def order_table(results: Results) -> pd.DataFrame:
    """Return how well the short trainings, and cost alone, order the confirmed networks, for each length.

    `tau` is Kendall's over all networks, `tau_beyond_cost` over the `pairs` of like cost; the costs are a baseline.
    """
    no_pairs = {"pairs": 0, "of_like_cost": 0, "verdict": str(OrderVerdict.TOO_FEW)}
    rows = [
        {"epochs": each.epochs, "order by": each.name} | no_pairs | order_columns(each.scores, each.long, each.gflops)
        for each in _orders(results)
    ]
    return pd.DataFrame(rows, columns=["epochs", "order by", *ORDER_COLUMNS]).round(3)


def _orders(results: Results) -> Iterator[_Order]:
    means, score = _means(results), results.score
    for epochs, rows in means.groupby("epochs") if len(means) else ():
        long, short = (-score.loss_sign * rows[name] for name in (score.name, SHORT + results.curve_score.name))
        for name, by in {SHORT_TRAININGS: short, "GFLOPs": rows["macs"], "params": rows["params"]}.items():
            yield _Order(int(str(epochs)), name, by, long, rows["macs"] / GIGA)


def rank_agreement(results: Results) -> str:
    """Return sentences for each length of confirmation: whether it orders the networks as the short trainings do."""
    by_length = [list(orders) for _, orders in groupby(_orders(results), key=lambda order: order.epochs)]
    if len(by_length) <= 1:
        return "".join(_agreement(*orders) for orders in by_length)
    return " ".join(f"After {orders[0].epochs} epochs: {_agreement(*orders)}" for orders in by_length)


def _agreement(short: _Order, *costs: _Order) -> str:
    if short.tau is None:
        return "Too few networks were confirmed to compare the order of the short trainings with the confirmations."
    tau = f"Kendall's tau of short trainings and confirmations over {len(short.long)} networks: {short.tau}."
    beyond = (
        f" Among networks of like cost (GFLOPs within {LIKE_COST:.0%}) it is {short.beyond}." if short.beyond else ""
    )
    baseline = f"Order by cost alone, as a baseline: {'; '.join(map(_baseline, costs))}."
    return f"{tau}{beyond} {_meaning(short)} {baseline}"


def _baseline(cost: _Order) -> str:
    tau = f"{cost.name} {cost.tau.value:.2f}" if cost.tau else f"{cost.name} no tau"
    return f"{tau}, {cost.beyond.value:.2f} among networks of like cost" if cost.beyond else tau


def _meaning(short: _Order) -> str:
    if short.verdict is not OrderVerdict.TOO_FEW:
        return VERDICTS[short.verdict]
    like = short.beyond.items if short.beyond else 0
    return f"Too few to tell: {like} networks have another of like cost, and a verdict needs {MIN_LIKE_ITEMS}."
