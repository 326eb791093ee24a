"""A second look: the best networks of a search trained longer, and with several seeds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from hiri_search.study.config import Confirm
from hiri_search.study.evolution import ranking
from hiri_search.study.ledger import Trial
from hiri_search.study.objectives import losses


def chosen(trials: Iterable[Trial], confirm: Confirm, objectives: tuple[str, ...]) -> list[Trial]:
    """One finished trial of each network to be confirmed: of the front, and of those behind it where it is short."""
    known = {}
    for trials_of in _by_network(trials).values():
        if (found := losses(trials_of, objectives)) is not None:
            known[trials_of[0].number] = (trials_of[0], found)
    if not known:
        return []
    places = ranking(np.array([found for _, found in known.values()]))
    ordered = sorted(zip(places, known.values(), strict=True), key=lambda pair: pair[0])
    return [trial for _, (trial, _) in ordered[: confirm.top]]


def _by_network(trials: Iterable[Trial]) -> Mapping[str, list[Trial]]:
    """The finished ones."""
    by_key: dict[str, list[Trial]] = {}
    for trial in trials:
        if trial.state == "finished":
            by_key.setdefault(trial.asked["key"], []).append(trial)
    return by_key


def missing(
    chosen: Iterable[Trial], past: Iterable[Trial], seeds: Iterable[int], epochs: int
) -> Iterator[tuple[Trial, int]]:
    """Networks, by a trial of the first look, and seeds that nobody has asked for."""
    asked = {(t.asked["key"], t.asked["seed"], t.asked["confirm_epochs"]) for t in past if t.is_second_look}
    wanted = list(seeds)
    return ((t, seed) for t in chosen for seed in wanted if (t.asked["key"], seed, epochs) not in asked)
