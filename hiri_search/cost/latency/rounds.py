"""Interleaved timing rounds in random order, repeated until the spread is small."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from random import Random
from typing import TypeVar

from hiri_search.cost.latency.config import LatencyConfig

K = TypeVar("K", bound=Hashable)
Timed = Callable[[], float]  # runs a network once or more and returns the time, in any unit

WARM_UP_ROUNDS = 4  # maximum
WARM_RATIO = 0.95  # warm-up ends when no time is below this share of the previous one
MIN_ROUNDS = 3  # regardless of the time limit: fewer times have no meaningful quartiles


def warm_up(timers: Mapping[K, Timed], times: Mapping[K, float], rng: Random) -> None:
    """Run rounds until no network gets faster; `times` are the times measured so far."""
    for _ in range(WARM_UP_ROUNDS):
        previous, times = times, _round(timers, rng)
        if all(times[key] >= WARM_RATIO * previous[key] for key in times):
            return


def interleave(
    timers: Mapping[K, Timed], config: LatencyConfig, rng: Random, *, clock: Callable[[], float] = time.perf_counter
) -> dict[K, list[float]]:
    """Return the times of each network by round. Every round times all networks in a new random order.

    So a machine that becomes busier slows down all networks alike, no network always runs after the same one, and times
    of the same round can be divided by each other.
    """
    times: dict[K, list[float]] = {key: [] for key in timers}
    started = clock()
    while timers and not _enough(times, config, clock() - started):
        for key, measured in _round(timers, rng).items():
            times[key].append(measured)
    return times


def _round(timers: Mapping[K, Timed], rng: Random) -> dict[K, float]:
    return {key: timers[key]() for key in rng.sample(list(timers), len(timers))}


def _enough(times: Mapping[K, Sequence[float]], config: LatencyConfig, seconds: float) -> bool:
    done = len(next(iter(times.values())))
    if done >= config.max_rounds:
        return True
    if seconds >= config.seconds * len(times):
        return done >= min(MIN_ROUNDS, config.min_rounds)
    return done >= config.min_rounds and all(spread(measured) <= config.spread for measured in times.values())


def spread(times: Sequence[float]) -> float:
    """Half the interquartile range, divided by the median; 0 for a single time."""
    if len(times) < 2:
        return 0.0
    low, median, high = statistics.quantiles(times, n=4, method="inclusive")
    return (high - low) / 2 / median
