"""Networks take turns in random order, for as many rounds as their spread wants."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from random import Random

import pytest

from hiri_search.cost.latency.rounds import WARM_UP_ROUNDS, StoppingRule, interleave, spread, warm_up

NAMES = "abcdef"
NOISY = (1.0, 2.0, 9.0, 1.0, 5.0)  # its spread never comes down


def _taken(rounds: StoppingRule, *, seconds: float = 0.0, **turns: Callable[[], float]) -> int:
    """How many rounds are taken, where each look at the clock finds it so much later."""
    ticks = count(0.0, seconds)
    times = interleave(turns, rounds, Random(0), clock=lambda: next(ticks))
    assert len({len(measured) for measured in times.values()}) == 1, "all take part in all rounds"
    return len(next(iter(times.values())))


def _noisy() -> Callable[[], float]:
    endless: Iterator[float] = (time for _ in count() for time in NOISY)
    return lambda: next(endless)


def test_every_round_has_all_of_them_in_an_order_of_its_own() -> None:
    log: list[str] = []
    turns = {name: lambda name=name: log.append(name) or 1.0 for name in NAMES}  # type: ignore[func-returns-value]
    interleave(turns, StoppingRule(10, 10, 0.0, 60.0), Random(0))
    rounds = [tuple(log[i : i + 6]) for i in range(0, 60, 6)]
    assert all(sorted(order) == list(NAMES) for order in rounds)
    assert len(set(rounds)) > 5
    assert len({order[0] for order in rounds}) > 2


def test_times_are_kept_in_the_order_of_the_rounds() -> None:
    ticks = count(1.0)
    found = interleave({"a": lambda: next(ticks)}, StoppingRule(4, 4, 0.0, 60.0), Random(0))
    assert found == {"a": [1.0, 2.0, 3.0, 4.0]}


def test_a_small_spread_ends_it_but_not_before_the_least() -> None:
    assert _taken(StoppingRule(5, 50, 0.02, 60.0), a=lambda: 1.0, b=lambda: 3.0) == 5


def test_one_that_is_noisy_keeps_all_of_them_at_it() -> None:
    assert _taken(StoppingRule(5, 50, 0.02, 60.0), a=lambda: 1.0, b=_noisy()) == 50


def test_time_ends_it_but_not_before_there_are_quartiles() -> None:
    assert _taken(StoppingRule(5, 50, 0.02, 60.0), seconds=5.0, a=_noisy()) == 11  # it has been 5 s at the first look
    assert _taken(StoppingRule(5, 50, 0.02, 1.0), seconds=5.0, a=_noisy()) == 3
    assert _taken(StoppingRule(2, 50, 0.02, 1.0), seconds=5.0, a=_noisy()) == 2


def test_nothing_to_time_is_no_rounds() -> None:
    assert interleave({}, StoppingRule(5, 50, 0.02, 60.0), Random(0)) == {}


@pytest.mark.parametrize(("times", "rounds"), [((5, 4, 4), 3), ((10, 10), 1), ((9, 9.0), 2), ((5, 4, 3, 2, 1), 4)])
def test_warming_up_ends_when_nothing_gets_faster(times: tuple[float, ...], rounds: int) -> None:
    left = iter(times)
    warm_up({"a": lambda: next(left)}, {"a": 10.0}, Random(0))
    assert len(times) - len(list(left)) == rounds <= WARM_UP_ROUNDS


@pytest.mark.parametrize(
    ("times", "wanted"), [([5.0], 0.0), ([4.0, 4.0, 4.0], 0.0), ([1.0, 2.0, 3.0, 4.0, 5.0], 1 / 3)]
)
def test_the_spread_is_half_the_quartiles_distance_over_the_median(times: list[float], wanted: float) -> None:
    assert spread(times) == pytest.approx(wanted)
