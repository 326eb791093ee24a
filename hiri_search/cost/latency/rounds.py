"""Interleaved timing rounds in random order, repeated until the spread is small."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeVar

K = TypeVar("K", bound=Hashable)
Timed = Callable[[], float]  # does its work, and tells how long it took, in whatever unit

WARM_UP_ROUNDS = 4  # at most
WARM = 0.95  # warm when no turn takes less than this share of the one before
MIN_ROUNDS = 3  # whatever the limit of time: under three there are no quartiles to speak of


@dataclass(frozen=True)
class StoppingRule:
    """When there have been enough rounds: when all spreads are small, but at least and at most so many."""

    least: int  # before a small spread is believed
    most: int
    spread: float  # half the distance between the quartiles, over the median
    seconds: float  # for all rounds together; the round that passes it is the last


def warm_up(turns: Mapping[K, Timed], before: Mapping[K, float], rng: Random) -> None:
    """Untimed rounds until nothing gets faster; `before` are the times so far."""
    for _ in range(WARM_UP_ROUNDS):
        now = _round(turns, rng)
        if all(now[key] >= WARM * before[key] for key in now):
            return
        before = now


def interleave(
    turns: Mapping[K, Timed], rounds: StoppingRule, rng: Random, *, clock: Callable[[], float] = time.perf_counter
) -> dict[K, list[float]]:
    """The times of each by round. All take part in every round, in a fresh random order.

    So a machine that grows busier slows all alike, nobody always follows the same neighbour, and the times of one
    round may be divided by each other.
    """
    times: dict[K, list[float]] = {key: [] for key in turns}
    started = clock()
    while turns and not _enough(times, rounds, clock() - started):
        for key, measured in _round(turns, rng).items():
            times[key].append(measured)
    return times


def _round(turns: Mapping[K, Timed], rng: Random) -> dict[K, float]:
    return {key: turns[key]() for key in rng.sample(list(turns), len(turns))}


def _enough(times: Mapping[K, Sequence[float]], rounds: StoppingRule, seconds: float) -> bool:
    done = len(next(iter(times.values())))
    if done >= rounds.most:
        return True
    if seconds >= rounds.seconds:
        return done >= min(MIN_ROUNDS, rounds.least)
    return done >= rounds.least and all(spread(measured) <= rounds.spread for measured in times.values())


def spread(times: Sequence[float]) -> float:
    """Half the distance between the quartiles, over the median; 0 for a single time."""
    if len(times) < 2:
        return 0.0
    low, median, high = statistics.quantiles(times, n=4, method="inclusive")
    return (high - low) / 2 / median
