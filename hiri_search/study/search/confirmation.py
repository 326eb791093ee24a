"""Confirmation: the best networks of a search trained longer, with several seeds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from hiri_search.cost.pareto import rank_then_crowding
from hiri_search.study.config.schema import ConfirmConfig
from hiri_search.study.ledger.trial import Trial
from hiri_search.study.search.objectives import losses


def chosen(trials: Iterable[Trial], confirm: ConfirmConfig, objectives: tuple[str, ...]) -> list[Trial]:
    """One finished trial of each network to be confirmed: of the front, and of those behind it where it is short."""
    networks = _by_network(trials).values()
    known = [(seeds[0], found) for seeds in networks if (found := losses(seeds, objectives)) is not None]
    if not known:
        return []
    order = rank_then_crowding(np.array([found for _, found in known]))
    return [known[index][0] for index in order[: confirm.top]]


def _by_network(trials: Iterable[Trial]) -> Mapping[str, list[Trial]]:
    """The finished ones."""
    by_key: dict[str, list[Trial]] = {}
    for trial in trials:
        if trial.state == "finished":
            by_key.setdefault(trial.network.key, []).append(trial)
    return by_key


def missing(
    chosen: Iterable[Trial], past: Iterable[Trial], seeds: Iterable[int], epochs: int
) -> Iterator[tuple[Trial, int]]:
    """Networks, by a trial of the first look, and seeds that nobody has asked for."""
    asked = {(t.network.key, t.asked.seed, t.asked.confirm_epochs) for t in past if t.is_confirmation}
    wanted = list(seeds)
    return ((t, seed) for t in chosen for seed in wanted if (t.network.key, seed, epochs) not in asked)
