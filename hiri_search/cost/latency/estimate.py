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
from hiri_search.cost.latency.forward import SAMPLE_SECONDS
from hiri_search.cost.latency.rounds import MIN_ROUNDS, WARM_UP_ROUNDS
from hiri_search.language import Network
from hiri_search.networks import build

PROBED_NETWORKS = 2  # the cheapest ones are timed: expensive ones would take as long as the benchmark itself
PROBE_SECONDS = 0.5  # per probed network

NetworkAtSide = tuple[Network, int]


@dataclass(frozen=True)
class _Rates:
    """Rates measured on the cheapest networks."""

    pass_seconds: float  # per multiply-add
    build_seconds: float  # per parameter
    compile_seconds: float  # per network
    settled: bool


def estimate_seconds(entries: Iterable[NetworkAtSide], config: LatencyConfig, *, classes: int = 1000) -> float:
    """Predict the seconds of `measure_latencies`; a spread that is too large in the probe is taken to remain so."""
    costs = {entry: count(*entry, classes=classes) for entry in dict.fromkeys(entries)}
    ordered = sorted(costs, key=lambda entry: costs[entry].macs)
    if not ordered:
        return 0.0
    rates = _rates(ordered[:PROBED_NETWORKS], config, classes)
    passes = [rates.pass_seconds * config.batch * cost.macs for cost in costs.values()]
    building = rates.build_seconds * sum(cost.params for cost in costs.values())
    first_passes = rates.compile_seconds * len(costs) + 2 * sum(passes)
    return building + first_passes + _rounds_seconds(passes, config, rates.settled)


def _rates(entries: Sequence[NetworkAtSide], config: LatencyConfig, classes: int) -> _Rates:
    costs = [count(*entry, classes=classes) for entry in entries]
    started = time.perf_counter()
    for entry in entries:
        build(*entry, classes=classes)
    build_seconds = time.perf_counter() - started
    quick = replace(config, seconds=min(config.seconds, PROBE_SECONDS))
    results = measure_latencies(dict(enumerate(entries)), quick, classes=classes)
    timed = [(result, costs[number]) for number, result in results if isinstance(result, Latency)]
    return _Rates(
        pass_seconds=fmean(latency.ms_per_image / 1000 / cost.macs for latency, cost in timed) if timed else 0.0,
        build_seconds=build_seconds / sum(cost.params for cost in costs),
        compile_seconds=fmean([latency.compile_seconds or 0.0 for latency, _ in timed] or [0.0]),
        settled=all(latency.settled for latency, _ in timed),
    )


def _rounds_seconds(passes: Sequence[float], config: LatencyConfig, settled: bool) -> float:
    """Seconds of all rounds, warm-up included."""
    per_round = sum(map(_sample_seconds, passes))
    if settled:
        return (1 + config.min_rounds) * per_round
    limit = config.seconds * len(passes) + per_round / 2  # the last round exceeds the limit, on average by half
    minimum = min(MIN_ROUNDS, config.min_rounds) * per_round
    return WARM_UP_ROUNDS * per_round + min(max(limit, minimum), config.max_rounds * per_round)


def _sample_seconds(pass_seconds: float) -> float:
    """Seconds of `WarmModel.sample_ms`: one pass, or the passes that fill SAMPLE_SECONDS and an untimed one."""
    passes = math.ceil(SAMPLE_SECONDS / pass_seconds) if pass_seconds else 1
    return pass_seconds * (passes + 1 if passes > 1 else 1)
