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
from hiri_search.cost.latency.forward import DoesNotFit, LoadedModel, WarmModel, convert, first_passes, size_of
from hiri_search.cost.latency.rounds import K, StoppingRule, interleave, spread, warm_up
from hiri_search.cost.latency.torch_state import find_device, torch_configured
from hiri_search.language import Net, Network
from hiri_search.networks import build
from hiri_search.system.files import Say
from hiri_search.system.hardware import Conditions, free_memory, with_conditions

BUSY_SHARE = 0.05  # seconds of waiting, by second, over which times are those of the machine's other work
WEIGHTS_SHARE = 0.5  # of the free memory, at most: the rest is for what flows through the networks

Build = Callable[[], nn.Module]


@dataclass(frozen=True)
class Latency:
    """What a pass takes: the median over rounds, how far they lie apart, and all that the number depends on."""

    ms_per_image: float  # median over rounds of a pass's milliseconds, over the batch
    images_per_second: float
    spread: float  # half the distance between the quartiles, over the median
    settled: bool  # whether that came down to the target, and nobody else held the cores
    batch: int
    side: int
    dtype: str
    compiled: bool
    fused: bool
    repeats: int  # rounds
    passes: int  # in a row, in each round
    rounds_ms: tuple[float, ...]  # milliseconds per image by round; `ratios` divides them
    compile_seconds: float | None  # of the first pass, where it compiles
    peak_memory_bytes: int | None  # on CUDA: weights, images and all that flows between, of this network alone
    conditions: Conditions  # from when all was warm


def measure_latencies(
    entries: Mapping[K, tuple[Network, int]],
    setting: LatencyConfig,
    *,
    classes: int = 1000,
    say: Say = lambda text: None,
) -> Iterator[tuple[K, Latency | DoesNotFit]]:
    """Time networks against each other, each at its side: eval mode, channels-last, random weights and images.

    In the order given, in groups whose weights fit into half of the free memory together; those of a group take
    turns. SpecError or LatencyError for a network that cannot be, or cannot take its side, before its group is timed.
    """
    for network, side in entries.values():
        if isinstance(network, Net):
            network.grids(side)
    builds = {key: (partial(_build, *entry, classes), entry[1]) for key, entry in entries.items()}
    return _measure(builds, setting, say)


def measure_modules(
    entries: Mapping[K, tuple[nn.Module, int]], setting: LatencyConfig, *, say: Say = lambda text: None
) -> Iterator[tuple[K, Latency | DoesNotFit]]:
    """The same for modules (B, 3, side, side) -> anything; they are copied, and stay as they are."""
    builds = {key: (partial(deepcopy, module), side) for key, (module, side) in entries.items()}
    return _measure(builds, setting, say)


def ratios(of: Latency, to: Latency) -> tuple[float, ...]:
    """How many times as long as `to`, by round: what both suffered from falls out. For two of one group."""
    if of.repeats != to.repeats:
        raise LatencyError("two latencies have different numbers of rounds; time them in one call")
    return tuple(one / other for one, other in zip(of.rounds_ms, to.rounds_ms, strict=True))


def _build(network: Network, side: int, classes: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay as they are
        return build(network, side, classes=classes)


def _measure(
    builds: Mapping[K, tuple[Build, int]], setting: LatencyConfig, say: Say
) -> Iterator[tuple[K, Latency | DoesNotFit]]:
    return _results(builds, setting, find_device(setting), say)  # a setting that cannot be is said at once


def _results(
    builds: Mapping[K, tuple[Build, int]], setting: LatencyConfig, device: torch.device, say: Say
) -> Iterator[tuple[K, Latency | DoesNotFit]]:
    for group in _groups(builds, setting, device):
        if len(group) < len(builds):
            say(f"{len(group)} of {len(builds)} networks fit into memory together, and take turns")
        with torch_configured(setting):
            results = _measure_group(group, setting, device, say)
        group.clear()  # its memory is the next one's
        yield from results.items()


def _groups(
    builds: Mapping[K, tuple[Build, int]], setting: LatencyConfig, device: torch.device
) -> Iterator[dict[K, LoadedModel]]:
    """As many networks at a time as fit, at least one; whoever takes a group must empty it."""
    group: dict[K, LoadedModel] = {}
    room = 0.0
    for key, (build_one, side) in builds.items():
        model = convert(str(key), build_one(), setting)
        size = size_of(model)
        if group and size > room:
            yield group
            group = {}
        if not group:
            room = _room(device)
        room -= size
        group[key] = LoadedModel(model.to(device), device, side, size)
        del model  # or it would live on through the next group
    if group:
        yield group


def _room(device: torch.device) -> float:
    """Bytes for the weights of a group."""
    free = free_memory(device)
    return math.inf if free is None else WEIGHTS_SHARE * free


def _measure_group(
    group: Mapping[K, LoadedModel], setting: LatencyConfig, device: torch.device, say: Say
) -> dict[K, Latency | DoesNotFit]:
    first = {key: first_passes(str(key), loaded, setting, say) for key, loaded in group.items()}
    ready = {key: one for key, one in first.items() if isinstance(one, WarmModel)}
    turns = {key: one.timed_turn for key, one in ready.items()}
    rng = Random(setting.seed)
    warm_up(turns, {key: 1000 * one.pass_seconds / setting.batch for key, one in ready.items()}, rng)
    rounds = StoppingRule(setting.least, setting.most, setting.spread, setting.seconds * len(ready))
    times, conditions = with_conditions(device, lambda: interleave(turns, rounds, rng))
    if _busy(conditions):
        waited = f"{conditions.waited:.0%} of the time its threads waited"
        say(f"other work held the cores while the networks were timed ({waited}): time them again on an idle machine")
    timed = {key: _latency(one, times[key], setting, conditions) for key, one in ready.items()}
    untimed = {key: one for key, one in first.items() if isinstance(one, DoesNotFit)}
    return {key: timed.get(key) or untimed[key] for key in first}


def _busy(conditions: Conditions) -> bool:
    return (conditions.waited or 0.0) > BUSY_SHARE


def _latency(ready: WarmModel, rounds_ms: list[float], setting: LatencyConfig, conditions: Conditions) -> Latency:
    middle, apart = median(rounds_ms), spread(rounds_ms)
    return Latency(
        ms_per_image=middle,
        images_per_second=1000 / middle,
        spread=apart,
        settled=apart <= setting.spread and not _busy(conditions),
        batch=setting.batch,
        side=ready.image.shape[-1],
        dtype=setting.dtype,
        compiled=setting.compiled,
        fused=setting.fused,
        repeats=len(rounds_ms),
        passes=ready.passes,
        rounds_ms=tuple(rounds_ms),
        compile_seconds=ready.compile_seconds,
        peak_memory_bytes=ready.peak_memory_bytes,
        conditions=conditions,
    )
