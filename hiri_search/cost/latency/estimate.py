"""Estimate of how long a latency benchmark will take."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from hiri_search.cost.flops import count
from hiri_search.cost.latency.benchmark import Latency, measure_latencies
from hiri_search.cost.latency.config import LatencyConfig
from hiri_search.cost.latency.forward import TURN_SECONDS
from hiri_search.cost.latency.rounds import MIN_ROUNDS, WARM_UP_ROUNDS
from hiri_search.language import Network
from hiri_search.networks import build

PROBED_NETWORKS = 2  # networks that are timed: dear ones would take as long as what they foretell
PROBE_SECONDS = 0.5  # seconds for each of them

NetworkAtSide = tuple[Network, int]  # a network and its side


@dataclass(frozen=True)
class _Rates:
    """What the cheapest have shown."""

    pass_seconds: float  # for each multiply-add
    build_seconds: float  # for each weight
    compile_seconds: float  # of a network
    settled: bool


def estimate_seconds(entries: Iterable[NetworkAtSide], setting: LatencyConfig, *, classes: int = 1000) -> float:
    """Seconds that `measure` will take; times that do not settle shortly are taken not to settle at all."""
    costs = {entry: count(*entry, classes=classes) for entry in dict.fromkeys(entries)}
    ordered = sorted(costs, key=lambda entry: costs[entry].macs)
    if not ordered:
        return 0.0
    rates = _rates(ordered[:PROBED_NETWORKS], setting, classes)
    passes = [rates.pass_seconds * setting.batch * cost.macs for cost in costs.values()]
    building = rates.build_seconds * sum(cost.params for cost in costs.values())
    return building + rates.compile_seconds * len(costs) + 2 * sum(passes) + _repeating(passes, setting, rates.settled)


def _rates(entries: Sequence[NetworkAtSide], setting: LatencyConfig, classes: int) -> _Rates:
    costs = [count(*entry, classes=classes) for entry in entries]
    started = time.perf_counter()
    for entry in entries:
        build(*entry, classes=classes)
    built = time.perf_counter() - started
    quick = replace(setting, seconds=min(setting.seconds, PROBE_SECONDS))
    measured = [found for _, found in measure_latencies(dict(enumerate(entries)), quick, classes=classes)]
    timed = [(found, cost) for found, cost in zip(measured, costs, strict=True) if isinstance(found, Latency)]
    return _Rates(
        pass_seconds=fmean(found.ms_per_image / 1000 / cost.macs for found, cost in timed) if timed else 0.0,
        build_seconds=built / sum(cost.params for cost in costs),
        compile_seconds=fmean([found.compile_seconds or 0.0 for found, _ in timed] or [0.0]),
        settled=all(found.settled for found, _ in timed),
    )


def _repeating(passes: Sequence[float], setting: LatencyConfig, settled: bool) -> float:
    """The rounds, those to warm up among them."""
    once = sum(map(_turn, passes))
    if settled:
        return (1 + setting.least) * once
    limit = setting.seconds * len(passes) + once / 2  # the round that passes the limit is the last
    fewest = min(MIN_ROUNDS, setting.least) * once
    return WARM_UP_ROUNDS * once + min(max(limit, fewest), setting.most * once)


def _turn(pass_seconds: float) -> float:
    """Of `Ready.turn`: one pass, or as many as fill a turn and one more."""
    passes = math.ceil(TURN_SECONDS / pass_seconds) if pass_seconds else 1
    return pass_seconds * (passes + 1 if passes > 1 else 1)
