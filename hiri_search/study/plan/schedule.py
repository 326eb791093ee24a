"""Trials laid into slots: makespan, and the stints of successive halving."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator

from hiri_search.study.config.sections.search import HalvingConfig


def makespan(seconds: Iterable[float], slots: int) -> float:
    """Return when the last trial ends if each trial starts, in order, in the slot that is free first."""
    free = [0.0] * slots
    for duration in seconds:
        heapq.heappush(free, heapq.heappop(free) + duration)
    return max(free)


def bit_reversed_order(count: int) -> Iterator[int]:
    """Yield every index below `count` once: both ends, the middle, the quarters, the eighths, and so on."""
    yielded: set[int] = set()
    parts = 1
    while len(yielded) < count:
        for part in range(parts + 1):
            index = round(part * (count - 1) / parts)
            if index not in yielded:
                yielded.add(index)
                yield index
        parts *= 2


def training_stints(trials: int, epochs: int, halving: HalvingConfig | None) -> Iterator[tuple[int, int, int]]:
    """Yield each stint as trial number, completed epochs at its start, and completed epochs at its end.

    Which trials are promoted from a rung is unknown before the run, but the number of promotions is known.
    """
    brackets = halving.brackets if halving else 1
    for bracket in range(brackets):
        promoted, start = range(bracket, trials, brackets), 0
        for rung in (*(halving.epochs[bracket:] if halving else ()), epochs):
            yield from ((trial, start, rung) for trial in promoted)
            start = rung
            promoted = promoted[: max(1, halving.promoted_count(len(promoted))) if halving else 0]
