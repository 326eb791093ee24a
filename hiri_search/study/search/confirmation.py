"""Confirmation: the best networks of a search trained longer, with several seeds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from hiri_search.cost.pareto import rank_then_crowding
from hiri_search.study.config.schema import ConfirmConfig
from hiri_search.study.ledger.trial import Trial
from hiri_search.study.search.objectives import Objective, losses


def chosen(trials: Iterable[Trial], confirm: ConfirmConfig, objectives: Sequence[Objective]) -> list[Trial]:
    """Return a finished trial of each network to confirm, by non-dominated rank, then by crowding distance."""
    by_network: dict[str, list[Trial]] = {}
    for trial in trials:
        if trial.state == "finished":
            by_network.setdefault(trial.network.key, []).append(trial)
    seeds_of = by_network.values()
    measured = [(seeds[0], means) for seeds in seeds_of if (means := losses(seeds, objectives)) is not None]
    if not measured:
        return []
    order = rank_then_crowding(np.array([means for _, means in measured]))
    return [measured[index][0] for index in order[: confirm.top]]


def missing(
    trials: Iterable[Trial], past: Iterable[Trial], seeds: Iterable[int], epochs: int
) -> Iterator[tuple[Trial, int]]:
    """Yield pairs of a chosen trial and a seed for which `past` holds no confirmation with these epochs."""
    asked = {(t.network.key, t.asked.seed, t.asked.confirm_epochs) for t in past if t.is_confirmation}
    wanted = list(seeds)
    return ((t, seed) for t in trials for seed in wanted if (t.network.key, seed, epochs) not in asked)
