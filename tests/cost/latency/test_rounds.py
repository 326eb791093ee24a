"""Rounds time all networks in random order, and are repeated until their spreads are small."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from random import Random

import pytest

from hiri_search.cost.latency.config import LatencyConfig
from hiri_search.cost.latency.rounds import WARM_UP_ROUNDS, interleave, spread, warm_up

NAMES = "abcdef"
NOISY = (1.0, 2.0, 9.0, 1.0, 5.0)  # their spread stays large


def _config(least: int, most: int, spread: float, seconds: float) -> LatencyConfig:
    return LatencyConfig(min_rounds=least, max_rounds=most, spread=spread, seconds=seconds)


def _rounds_run(config: LatencyConfig, *, seconds: float = 0.0, **timers: Callable[[], float]) -> int:
    """Number of rounds, with a clock that advances by `seconds` at every reading."""
    ticks = count(0.0, seconds)
    times = interleave(timers, config, Random(0), clock=lambda: next(ticks))
    assert len({len(measured) for measured in times.values()}) == 1, "every round times all networks"
    return len(next(iter(times.values())))


def _noisy() -> Callable[[], float]:
    times: Iterator[float] = (time for _ in count() for time in NOISY)
    return lambda: next(times)


def test_every_round_times_all_networks_in_its_own_order() -> None:
    log: list[str] = []
    timers = {name: lambda name=name: log.append(name) or 1.0 for name in NAMES}  # type: ignore[func-returns-value]
    interleave(timers, _config(10, 10, 0.0, 60.0), Random(0))
    rounds = [tuple(log[i : i + 6]) for i in range(0, 60, 6)]
    assert all(sorted(order) == list(NAMES) for order in rounds)
    assert len(set(rounds)) > 5
    assert len({order[0] for order in rounds}) > 2


def test_times_are_returned_in_the_order_of_the_rounds() -> None:
    ticks = count(1.0)
    times = interleave({"a": lambda: next(ticks)}, _config(4, 4, 0.0, 60.0), Random(0))
    assert times == {"a": [1.0, 2.0, 3.0, 4.0]}


def test_small_spreads_end_the_rounds_after_the_minimum_number() -> None:
    assert _rounds_run(_config(5, 50, 0.02, 60.0), a=lambda: 1.0, b=lambda: 3.0) == 5


def test_one_noisy_network_keeps_all_networks_in_the_rounds() -> None:
    assert _rounds_run(_config(5, 50, 0.02, 60.0), a=lambda: 1.0, b=_noisy()) == 50


def test_the_time_limit_ends_the_rounds_after_three_or_the_minimum() -> None:
    assert _rounds_run(_config(5, 50, 0.02, 60.0), seconds=5.0, a=_noisy()) == 11  # the first reading is 5 s
    assert _rounds_run(_config(5, 50, 0.02, 1.0), seconds=5.0, a=_noisy()) == 3
    assert _rounds_run(_config(2, 50, 0.02, 1.0), seconds=5.0, a=_noisy()) == 2


def test_no_networks_need_no_rounds() -> None:
    assert interleave({}, _config(5, 50, 0.02, 60.0), Random(0)) == {}


@pytest.mark.parametrize(("times", "rounds"), [((5, 4, 4), 3), ((10, 10), 1), ((9, 9.0), 2), ((5, 4, 3, 2, 1), 4)])
def test_warm_up_ends_when_no_network_gets_faster(times: tuple[float, ...], rounds: int) -> None:
    remaining = iter(times)
    warm_up({"a": lambda: next(remaining)}, {"a": 10.0}, Random(0))
    assert len(times) - len(list(remaining)) == rounds <= WARM_UP_ROUNDS


@pytest.mark.parametrize(
    ("times", "expected"), [([5.0], 0.0), ([4.0, 4.0, 4.0], 0.0), ([1.0, 2.0, 3.0, 4.0, 5.0], 1 / 3)]
)
def test_the_spread_is_half_the_interquartile_range_divided_by_the_median(times: list[float], expected: float) -> None:
    assert spread(times) == pytest.approx(expected)
