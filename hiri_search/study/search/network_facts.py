"""What is written of a network before it is trained: spec, costs, stand-in, latency."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from hiri_search.cost.flops import ZERO, count, count_parts
from hiri_search.cost.latency.benchmark import Latency, measure_latencies
from hiri_search.cost.latency.config import LatencyConfig
from hiri_search.language import Network
from hiri_search.study.config.networks import Candidate
from hiri_search.study.config.schema import Study
from hiri_search.training.job import PreparedData

PreparedBySide = dict[int, PreparedData]  # by the side that networks see


def fingerprints(prepared: PreparedBySide) -> dict[str, str]:
    """What names the images, by side; JSON knows no numbers as keys."""
    return {str(side): images.folder.name for side, images in prepared.items()}


def network_facts(candidate: Candidate, study: Study, prepared: PreparedBySide) -> dict[str, Any]:
    """All that is written of a network when it is asked for."""
    known = network_costs(candidate, study, prepared)
    if study.space is None or "ms_per_image" not in (*study.search.objectives, *study.within):
        return known
    # A search needs to know it before others are asked for; disturbed by the trials beside it.
    return known | {"ms_per_image": milliseconds(study, candidate.network)}


def milliseconds(study: Study, network: Network) -> float | None:
    """Measured inference of one image; None where it does not fit into memory."""
    alone = {str(network): (network, study.counted.side)}
    _, latency = next(measure_latencies(alone, study.latency or LatencyConfig(), classes=study.counted.classes))
    return latency.ms_per_image if isinstance(latency, Latency) else None


def network_costs(candidate: Candidate, study: Study, prepared: PreparedBySide) -> dict[str, Any]:
    """What a network is and costs, and what is trained for it."""
    parts = count_parts(candidate.network, candidate.side, classes=study.counted.classes)
    facts = {
        "name": candidate.name,
        "key": candidate.network.key,
        "spec": str(candidate.network),
        "side": candidate.side,
        **asdict(sum(parts.values(), ZERO)),
        "by_part": {name: [cost.params, cost.macs] for name, cost in parts.items()},
    }
    if candidate.trained is None:
        return facts
    side = candidate.trained_side
    cost = count(candidate.trained, side, classes=len(prepared[side].classes))
    trained = {"spec": str(candidate.trained), "side": side, "params": cost.params, "macs": cost.macs}
    return facts | {f"trained_{name}": value for name, value in trained.items()}
