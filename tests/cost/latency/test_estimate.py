"""The predicted duration of a latency benchmark follows its stopping rule."""

import pytest

from hiri_search.cost.flops import count
from hiri_search.cost.latency import estimate
from hiri_search.cost.latency.config import LatencyConfig
from hiri_search.cost.latency.estimate import estimate_seconds
from hiri_search.cost.latency.forward import SAMPLE_SECONDS
from hiri_search.language import parse_net

CONFIG = LatencyConfig(seconds=10, min_rounds=4, max_rounds=100)
LONG = 2 * SAMPLE_SECONDS  # seconds of a pass that is timed alone


def test_a_long_pass_is_timed_alone_and_short_ones_in_a_row_after_an_untimed_one():
    assert estimate._sample_seconds(LONG) == LONG
    assert estimate._sample_seconds(SAMPLE_SECONDS / 4) == pytest.approx(SAMPLE_SECONDS * 5 / 4)


def test_settled_spreads_take_the_minimum_number_of_rounds():
    assert estimate._rounds_seconds([LONG, LONG], CONFIG, True) == pytest.approx((1 + 4) * 2 * LONG)


def test_unsettled_spreads_take_the_whole_time_limit():
    seconds = estimate._rounds_seconds([LONG, LONG], CONFIG, False)
    assert seconds == pytest.approx(4 * 2 * LONG + 2 * 10 + LONG)


def test_rounds_stay_between_the_minimum_and_the_maximum():
    assert estimate._rounds_seconds([LONG], LatencyConfig(seconds=1e9, max_rounds=8), False) == pytest.approx(
        (4 + 8) * LONG
    )
    assert estimate._rounds_seconds([LONG], LatencyConfig(seconds=1e-9), False) == pytest.approx((4 + 3) * LONG)


QUICK = LatencyConfig(seconds=0.01, min_rounds=1, threads=1)
NETS = [(parse_net(f"hr({width} e=4) -> hr(64 e=4)"), 64) for width in (32, 48, 64)]


def test_a_network_takes_time_and_no_networks_take_none():
    assert estimate_seconds(NETS[:1], QUICK, classes=10) > 0
    assert estimate_seconds([], QUICK) == 0


def test_the_estimate_scales_measured_rates_by_the_costs_of_all_networks(monkeypatch: pytest.MonkeyPatch):
    rates = estimate._Rates(pass_seconds=1e-6, build_seconds=1e-3, compile_seconds=7.0, settled=True)
    monkeypatch.setattr(estimate, "_rates", lambda entries, config, classes: rates)
    costs = [count(*entry, classes=10) for entry in NETS]
    passes = [1e-6 * cost.macs for cost in costs]
    rounds = estimate._rounds_seconds(passes, QUICK, True)
    expected = 1e-3 * sum(cost.params for cost in costs) + 3 * 7 + 2 * sum(passes) + rounds
    assert estimate_seconds(NETS, QUICK, classes=10) == pytest.approx(expected)
    assert estimate_seconds(NETS[:1], QUICK, classes=10) < expected
