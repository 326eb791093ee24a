"""Inference latency of several networks, timed against each other in interleaved rounds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from random import Random
from statistics import median

import torch
from torch import nn

from hiri_search.cost.latency.config import LatencyConfig, LatencyError
from hiri_search.cost.latency.forward import DoesNotFit, LoadedModel, WarmModel, convert, first_passes, weight_bytes
from hiri_search.cost.latency.rounds import K, interleave, spread, warm_up
from hiri_search.cost.latency.torch_state import find_device, torch_configured
from hiri_search.language import Net, Network
from hiri_search.networks import build
from hiri_search.system.files import Say
from hiri_search.system.hardware import Conditions, free_gpu_memory, free_memory, with_conditions

BUSY_SHARE = 0.05  # share of time waiting for a core, above which other work on the machine disturbs the times
WEIGHTS_SHARE = 0.5  # maximum, of the free memory: the rest is for activations

Build = Callable[[], nn.Module]


@dataclass(frozen=True)
class Latency:
    """Measured latency: the median over rounds, its spread, and everything that the number depends on."""

    ms_per_image: float  # median over rounds of the milliseconds of a pass, divided by the batch size
    images_per_second: float
    spread: float  # half the interquartile range, divided by the median
    settled: bool  # the spread is within the target, and no other work disturbed the times
    batch: int
    side: int
    dtype: str
    compiled: bool
    fused: bool
    cuda_graphs: bool
    repeats: int  # rounds
    passes: int  # in a row, in each round
    rounds_ms: tuple[float, ...]  # milliseconds per image by round, for `ratios`
    compile_seconds: float | None  # time of the first pass, if it compiles
    peak_memory_bytes: int | None  # on CUDA: weights, images and activations of this network alone
    conditions: Conditions  # of the machine after the warm-up


def measure_latencies(
    entries: Mapping[K, tuple[Network, int]],
    config: LatencyConfig,
    *,
    classes: int = 1000,
    say: Say = lambda text: None,
) -> Iterator[tuple[K, Latency | DoesNotFit]]:
    """Time networks against each other, each at its side: eval mode, channels-last, random weights and images.

    Results come in the order of `entries`. Networks are grouped so that the weights of a group fit into half of the
    free memory; the rounds of a group are interleaved. Raises SpecError or LatencyError for a network that cannot be
    built or does not accept its side, before its group is timed.
    """
    for network, side in entries.values():
        if isinstance(network, Net):
            network.grids(side)
    builds = {key: (partial(_build, *entry, classes), entry[1]) for key, entry in entries.items()}
    return _measure(builds, config, find_device(config), say)


def measure_modules(
    entries: Mapping[K, tuple[nn.Module, int]], config: LatencyConfig, *, say: Say = lambda text: None
) -> Iterator[tuple[K, Latency | DoesNotFit]]:
    """As `measure_latencies`, for copies of modules that accept (B, 3, side, side)."""
    builds = {key: (partial(deepcopy, module), side) for key, (module, side) in entries.items()}
    return _measure(builds, config, find_device(config), say)


def ratios(of: Latency, to: Latency) -> tuple[float, ...]:
    """Latency relative to `to`, by round, for two networks of one group: disturbances of a round cancel out."""
    if of.repeats != to.repeats:
        raise LatencyError("two latencies have different numbers of rounds; time them in one call")
    return tuple(numerator / denominator for numerator, denominator in zip(of.rounds_ms, to.rounds_ms, strict=True))


def _build(network: Network, side: int, classes: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):  # keeps the caller's random state
        return build(network, side, classes=classes)


def _measure(
    builds: Mapping[K, tuple[Build, int]], config: LatencyConfig, device: torch.device, say: Say
) -> Iterator[tuple[K, Latency | DoesNotFit]]:
    """The caller finds the device, because a generator would not refuse an impossible configuration at the call."""
    for group in _groups(builds, config, device):
        if len(group) < len(builds):
            say(f"{len(group)} of {len(builds)} networks fit into memory together; their rounds are interleaved")
        with torch_configured(config):
            results = _measure_group(group, config, device, say)
        group.clear()
        free_gpu_memory()  # for the next group, and for the trials of other processes
        yield from results.items()


def _groups(
    builds: Mapping[K, tuple[Build, int]], config: LatencyConfig, device: torch.device
) -> Iterator[dict[K, LoadedModel]]:
    """Yield groups of as many networks as fit into memory, at least one; the caller must clear each group."""
    group: dict[K, LoadedModel] = {}
    free = 0.0
    for key, (build_one, side) in builds.items():
        model = convert(str(key), build_one(), config)
        size = weight_bytes(model)
        if group and size > free:
            yield group
            group = {}
        if not group:
            memory = free_memory(device)
            free = math.inf if memory is None else WEIGHTS_SHARE * memory
        free -= size
        group[key] = LoadedModel(model.to(device), device, side, size)
        del model  # else this reference keeps it alive during the next group
    if group:
        yield group


def _measure_group(
    group: Mapping[K, LoadedModel], config: LatencyConfig, device: torch.device, say: Say
) -> dict[K, Latency | DoesNotFit]:
    pool = torch.cuda.graph_pool_handle() if config.cuda_graphs else None
    first = {key: first_passes(str(key), loaded, config, say, pool) for key, loaded in group.items()}
    warm = {key: model for key, model in first.items() if isinstance(model, WarmModel)}
    timers = {key: model.sample_ms for key, model in warm.items()}
    rng = Random(config.seed)
    warm_up(timers, {key: 1000 * model.pass_seconds / config.batch for key, model in warm.items()}, rng)
    times, conditions = with_conditions(device, lambda: interleave(timers, config, rng))
    if _busy(conditions):
        waited = f"threads waited for a core during {conditions.waited:.0%} of the time"
        say(f"other work disturbed the timing of the networks ({waited}): time them again on an idle machine")
    return {
        key: model if isinstance(model, DoesNotFit) else _latency(model, times[key], config, conditions)
        for key, model in first.items()
    }


def _busy(conditions: Conditions) -> bool:
    return (conditions.waited or 0.0) > BUSY_SHARE


def _latency(warm: WarmModel, rounds_ms: list[float], config: LatencyConfig, conditions: Conditions) -> Latency:
    ms_per_image, relative_spread = median(rounds_ms), spread(rounds_ms)
    return Latency(
        ms_per_image=ms_per_image,
        images_per_second=1000 / ms_per_image,
        spread=relative_spread,
        settled=relative_spread <= config.spread and not _busy(conditions),
        batch=config.batch,
        side=warm.image.shape[-1],
        dtype=config.dtype,
        compiled=config.compiled,
        fused=config.fused,
        cuda_graphs=config.cuda_graphs,
        repeats=len(rounds_ms),
        passes=warm.passes,
        rounds_ms=tuple(rounds_ms),
        compile_seconds=warm.compile_seconds,
        peak_memory_bytes=warm.peak_memory_bytes,
        conditions=conditions,
    )
