"""Draw of a calibration's networks: uniformly within narrow bands of cost, which lie across the costs of the space."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from math import log
from random import Random

import numpy as np

from hiri_search.cost.flops import count
from hiri_search.language import uniform
from hiri_search.language.space import SearchSpace
from hiri_search.stats.rank_correlation import LIKE_COST
from hiri_search.study.config.identity import canonical_form
from hiri_search.study.config.networks import InvalidNetwork, network_of, resolve
from hiri_search.study.config.schema import StudyConfig
from hiri_search.study.config.sections.calibration import CalibrateConfig
from hiri_search.study.errors import StudyError
from hiri_search.study.ledger.values import JsonObject
from hiri_search.study.search.search_space import check_counted, checked_space, sampled_networks, search_space
from hiri_search.system.files import Say
from hiri_search.system.units import GIGA

_WIDTH = 1 + LIKE_COST  # highest cost in a band over the lowest, so that all its pairs are of like cost
_SAMPLED = 200  # networks whose costs place the bands
_TAIL = 0.05  # share of the sampled networks below the lowest band, and above the highest one
_MAX_IDLE = 1_000  # walks in a row without a new network, after which a band counts as used up


@dataclass(frozen=True)
class CostBand:
    """Networks of like cost."""

    low: float  # GFLOPs
    high: float
    networks: dict[str, str]  # spec by name

    def __str__(self) -> str:
        return f"{self.low:.3f} to {self.high:.3f} GFLOPs"


def drawn_from(study: StudyConfig) -> JsonObject:
    """Return everything that decides which networks `draw` returns."""
    config, form = _config(study), canonical_form(study)
    size = {"networks": config.networks, "bands": config.bands, "seed": config.seed}
    method = {"method": study.method} if study.method else {}
    return {name: form.get(name) for name in ("space", "where", "within", "counted")} | size | method


def draw(study: StudyConfig, say: Say) -> tuple[CostBand, ...]:
    """Return the bands of a study with a space, cheapest first, each with equally many different networks.

    All networks within a band are equally likely. StudyError where the space has too few networks of like cost, or
    where its costs are too much alike for so many bands.
    """
    config, networks = _config(study), resolve(study)
    space, rng = checked_space(networks, say), Random(config.seed)
    wanted = config.networks // config.bands
    lows = _lows(_sampled_costs(study, space), config.bands, wanted)
    for lower, upper in pairwise(lows):
        if upper <= lower * _WIDTH:
            problem = f"the networks of the space cost {lows[0]:.3g} to {lows[-1]:.3g} GFLOPs"
            raise StudyError(f"calibrate.bands={config.bands}: {problem}, too much alike; write fewer bands")
    return tuple(_band(study, low, wanted, f"band{number}", rng) for number, low in enumerate(lows, 1))


def _config(study: StudyConfig) -> CalibrateConfig:
    assert study.calibrate
    return study.calibrate


def _sampled_costs(study: StudyConfig, space: SearchSpace) -> list[float]:
    """Return the GFLOPs of different sampled networks, in ascending order."""
    sampled = {each.network.key: each for each in sampled_networks(study, space, _SAMPLED)}.values()
    return sorted(count(each.network, each.side, classes=study.counted.classes).macs / GIGA for each in sampled)


def _lows(costs: Sequence[float], bands: int, wanted: int) -> list[float]:
    """Return the lower ends of the bands: the costs of networks with many others of like cost, at even ratios."""
    neighbours = [sum(low <= cost <= low * _WIDTH for cost in costs) for low in costs]
    enough = min(wanted, float(np.median(neighbours)))
    crowded = [low for low, number in zip(costs, neighbours, strict=True) if number >= enough]
    ends = np.quantile(costs, [_TAIL, 1 - _TAIL]) if bands > 1 else np.quantile(costs, [0.5, 0.5])
    targets = np.geomspace(ends[0], max(ends[0], ends[1] / _WIDTH), bands)
    return [min(crowded, key=lambda low: abs(log(low / target))) for target in targets]


def _band(study: StudyConfig, low: float, wanted: int, name: str, rng: Random) -> CostBand:
    high = low * _WIDTH
    limits = {**study.within, "gmacs": f"{low!r}..{high!r}"}
    space = search_space(resolve(study.model_copy(update={"within": limits})))
    specs: dict[str, None] = {}
    idle = 0  # walks in a row to networks that are drawn already
    while len(specs) < wanted and idle < _MAX_IDLE:
        known = len(specs)
        with suppress(InvalidNetwork):  # of timm, where it cannot be built
            candidate = network_of(study, *space.walk(uniform(rng)))
            check_counted(study, candidate)
            specs[str(candidate.network)] = None
        idle = 0 if len(specs) > known else idle + 1
    if len(specs) == wanted:
        return CostBand(low, high, {f"{name}-{number}": spec for number, spec in enumerate(specs, 1)})
    problem = f"the space has {len(specs)} networks of {low:.3g} to {high:.3g} GFLOPs, and {wanted} are wanted"
    raise StudyError(f"calibrate.networks: {problem}; write fewer networks or more options in the space")
