"""Confirmation: networks of a search trained longer, with several seeds: the best ones, and others of like cost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from hiri_search.cost.pareto import rank_then_crowding
from hiri_search.study.config.sections.search import ConfirmConfig
from hiri_search.study.ledger.trial import Trial
from hiri_search.study.search.objectives import Objective, losses

BANDS = 3  # groups of networks of like cost, where the search trained enough of them


def chosen(trials: Iterable[Trial], confirm: ConfirmConfig, objectives: Sequence[Objective]) -> list[Trial]:
    """Return a finished trial of each network to confirm: of the best networks, then of their partners.

    The best come by non-dominated rank, then by crowding distance. Along a Pareto front accuracy rises with cost by
    construction, so that an order by cost alone would be confirmed too; `partners` have like cost.
    """
    by_network: dict[tuple[str, str], list[Trial]] = {}
    for trial in trials:
        if trial.state == "finished":
            by_network.setdefault(trial.network.training, []).append(trial)
    seeds_of = by_network.values()
    measured = [(seeds[0], means) for seeds in seeds_of if (means := losses(seeds, objectives)) is not None]
    if not measured:
        return []
    best = rank_then_crowding(np.array([means for _, means in measured]))[: confirm.top]
    beside = partners([trial.network.macs for trial, _ in measured], best, confirm.partners)
    return [measured[index][0] for index in (*best, *beside)]


def partners(costs: Sequence[float], best: Sequence[int], count: int) -> list[int]:
    """Return the indices of up to `count` networks beside `best`, in bands of like cost, the first ones of each band.

    No score is used. The next band is the farthest in cost from the earlier ones: of those with one of the best
    networks, else of all, else, within reach of an earlier band, of the rest.
    """
    from hiri_search.stats.rank_correlation import LIKE_COST  # slow

    order = np.argsort(costs, kind="stable")
    logs, reach = np.log(np.asarray(costs, float)[order]), np.log1p(LIKE_COST)
    ends = np.searchsorted(logs, logs + reach, side="right")  # the band that each network is the cheapest of
    of_best, networks = _in_bands(np.isin(order, best), ends), ends - np.arange(len(ends))
    free, distance, found = ~np.isin(order, best), np.full(len(logs), np.inf), list[int]()
    size = -(-count // BANDS)  # networks to add to a band
    while size and len(found) < count:
        size = min(size, count - len(found))
        pool = _in_bands(free, ends)
        possible = (pool >= size) & (networks - pool + size >= 2)  # one network alone is no band
        apart = possible & (distance > reach)
        bands = next((some for some in (apart & (of_best > 0), apart, possible) if some.any()), None)
        if bands is None:
            size -= 1
            continue
        band = int(np.where(bands, distance, -1.0).argmax())
        inside = np.arange(band, ends[band])
        added = sorted(inside[free[inside]], key=lambda index: order[index])[:size]
        free[added], distance = False, np.minimum(distance, np.abs(logs - logs[band]))
        found += order[added].tolist()
    return found


def _in_bands(mask: npt.NDArray[np.bool_], ends: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """Return the number of networks for which `mask` is true in each band."""
    before = np.concatenate([[0], np.cumsum(mask)])
    return np.asarray(before[ends] - before[:-1])


def summary(networks: Sequence[Trial], confirm: ConfirmConfig) -> str:
    """Describe the networks to confirm, and warn where they are too few for a verdict on the short trainings."""
    from hiri_search.stats.rank_correlation import MIN_LIKE_ITEMS, like_cost_items  # slow

    best = min(confirm.top, len(networks))
    text = f"confirming the best {best} networks, and {len(networks) - best} more of like cost"
    like = like_cost_items([trial.network.macs for trial in networks])
    if like >= MIN_LIKE_ITEMS or not confirm.partners:
        return text
    few = f"{like} of them have another of like cost, and a verdict on the order of the short trainings needs"
    return f"{text}: {few} {MIN_LIKE_ITEMS}; train more networks to the end (search.networks, search.halving)"


def missing(
    trials: Iterable[Trial], past: Iterable[Trial], seeds: Iterable[int], epochs: int
) -> Iterator[tuple[Trial, int]]:
    """Yield pairs of a chosen trial and a seed for which `past` holds no confirmation with these epochs."""
    asked = {(t.network.training, t.asked.seed, t.asked.confirm_epochs) for t in past if t.is_confirmation}
    wanted = list(seeds)
    return ((t, seed) for t in trials for seed in wanted if (t.network.training, seed, epochs) not in asked)
