"""Interleaved timing rounds in random order, repeated until the spread is small."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeVar

K = TypeVar("K", bound=Hashable)
Timed = Callable[[], float]  # runs a network once or more and returns the time, in any unit

WARM_UP_ROUNDS = 4  # maximum
WARM_RATIO = 0.95  # warm-up ends when no time is below this share of the previous one
MIN_ROUNDS = 3  # regardless of the time limit: fewer times have no meaningful quartiles


@dataclass(frozen=True)
class StoppingRule:
    """Rounds end when all spreads are within the target, the time is up, or the maximum is reached."""

    min_rounds: int
    max_rounds: int
    target_spread: float  # half the interquartile range, divided by the median
    max_seconds: float  # for all rounds together; a round that has begun is completed


def warm_up(timers: Mapping[K, Timed], times: Mapping[K, float], rng: Random) -> None:
    """Run rounds until no network gets faster; `times` are the times measured so far."""
    for _ in range(WARM_UP_ROUNDS):
        previous, times = times, _round(timers, rng)
        if all(times[key] >= WARM_RATIO * previous[key] for key in times):
            return


def interleave(
    timers: Mapping[K, Timed], rule: StoppingRule, rng: Random, *, clock: Callable[[], float] = time.perf_counter
) -> dict[K, list[float]]:
    """Return the times of each network by round. Every round times all networks in a new random order.

    So a machine that becomes busier slows down all networks alike, no network always runs after the same one, and times
    of the same round can be divided by each other.
    """
    times: dict[K, list[float]] = {key: [] for key in timers}
    started = clock()
    while timers and not _enough(times, rule, clock() - started):
        for key, measured in _round(timers, rng).items():
            times[key].append(measured)
    return times


def _round(timers: Mapping[K, Timed], rng: Random) -> dict[K, float]:
    return {key: timers[key]() for key in rng.sample(list(timers), len(timers))}


def _enough(times: Mapping[K, Sequence[float]], rule: StoppingRule, seconds: float) -> bool:
    done = len(next(iter(times.values())))
    if done >= rule.max_rounds:
        return True
    if seconds >= rule.max_seconds:
        return done >= min(MIN_ROUNDS, rule.min_rounds)
    return done >= rule.min_rounds and all(spread(measured) <= rule.target_spread for measured in times.values())


def spread(times: Sequence[float]) -> float:
    """Half the interquartile range, divided by the median; 0 for a single time."""
    if len(times) < 2:
        return 0.0
    low, median, high = statistics.quantiles(times, n=4, method="inclusive")
    return (high - low) / 2 / median
