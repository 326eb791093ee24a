"""Trials laid into slots: makespan, and the stints that successive halving gives out."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator

from hiri_search.study.config.schema import HalvingConfig


def makespan(seconds: Iterable[float], slots: int) -> float:
    """When the last trial ends, each begun in its order in the slot that is free first."""
    free = [0.0] * slots
    for taken in seconds:
        heapq.heappush(free, heapq.heappop(free) + taken)
    return max(free)


def bit_reversed_order(count: int) -> Iterator[int]:
    """Places in a row of so many, all of them: both ends, the middle, the middles between, and so on."""
    given: set[int] = set()
    parts = 1
    while len(given) < count:
        for part in range(parts + 1):
            place = round(part * (count - 1) / parts)
            if place not in given:
                given.add(place)
                yield place
        parts *= 2


def training_stints(trials: int, epochs: int, halving: HalvingConfig | None) -> Iterator[tuple[int, int, int]]:
    """The stints of so many trials: the number, and behind which epoch it begins and ends.

    Who goes on from a rung is not known, but how many are.
    """
    brackets = halving.brackets if halving else 1
    for bracket in range(brackets):
        going_on, before = range(bracket, trials, brackets), 0
        for rung in (*(halving.epochs[bracket:] if halving else ()), epochs):
            yield from ((trial, before, rung) for trial in going_on)
            before = rung
            going_on = going_on[: max(1, halving.promoted_count(len(going_on))) if halving else 0]
