"""How long timing will take, beside the rule by which it stops."""

import pytest

from hiri_search.cost.latency import estimate
from hiri_search.cost.latency.config import LatencyConfig
from hiri_search.cost.latency.estimate import estimate_seconds
from hiri_search.cost.latency.forward import TURN_SECONDS
from hiri_search.language import parse_net

SETTING = LatencyConfig(seconds=10, least=4, most=100)
LONG = 2 * TURN_SECONDS  # a pass that fills a turn


def test_a_turn_is_one_long_pass_or_short_ones_that_fill_it_and_one_before():
    assert estimate._turn(LONG) == LONG
    assert estimate._turn(TURN_SECONDS / 4) == pytest.approx(TURN_SECONDS * 5 / 4)


def test_times_that_settle_take_the_least_rounds():
    assert estimate._repeating([LONG, LONG], SETTING, True) == pytest.approx((1 + 4) * 2 * LONG)


def test_times_that_do_not_settle_take_the_time_they_are_given():
    whole = estimate._repeating([LONG, LONG], SETTING, False)
    assert whole == pytest.approx(4 * 2 * LONG + 2 * 10 + LONG)


def test_never_more_rounds_than_the_most_and_never_fewer_than_the_fewest():
    assert estimate._repeating([LONG], LatencyConfig(seconds=1e9, most=8), False) == pytest.approx((4 + 8) * LONG)
    assert estimate._repeating([LONG], LatencyConfig(seconds=1e-9), False) == pytest.approx((4 + 3) * LONG)


def test_more_networks_take_longer_and_none_takes_nothing():
    setting = LatencyConfig(seconds=0.01, least=1, threads=1)
    nets = [(parse_net(f"hr({width} e=4) -> hr(64 e=4)"), 64) for width in (32, 48, 64)]
    one, three = (estimate_seconds(entries, setting, classes=10) for entries in (nets[:1], nets))
    assert 0 < one < three
    assert estimate_seconds([], setting) == 0
