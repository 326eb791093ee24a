"""Latency is measured, so only what cannot depend on the machine is claimed."""

from __future__ import annotations

import pytest

from hiri_search.cost.latency import _spread, measure
from hiri_search.language import parse_net


def test_every_network_is_timed() -> None:
    nets = {name: parse_net(f"hrstem(hs=8) -> hr({name} e=1)") for name in ("8", "16")}
    found = dict(measure(nets, 32, batch=2, repeats=3))
    assert list(found) == ["8", "16"]
    for latency in found.values():
        assert (latency.batch, latency.side) == (2, 32)
        assert latency.ms > 0
        assert latency.spread >= 0


@pytest.mark.parametrize(
    ("times", "spread"), [([5.0], 0.0), ([4.0, 4.0, 4.0], 0.0), ([1.0, 2.0, 3.0, 4.0, 5.0], 1 / 3)]
)
def test_the_spread_is_half_the_quartiles_distance_over_the_median(times: list[float], spread: float) -> None:
    assert _spread(times) == pytest.approx(spread)
