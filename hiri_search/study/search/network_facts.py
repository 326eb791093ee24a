"""Facts of a network that the ledger stores before its training: spec, costs, stand-in, latency."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, replace

from hiri_search.cost.flops import ZERO, count, count_parts
from hiri_search.cost.kind_check import check_dense_kinds, check_kinds
from hiri_search.cost.latency.benchmark import Latency, measure_latencies
from hiri_search.cost.latency.config import LatencyConfig
from hiri_search.language import DenseNetwork, Net, Network, SpecError
from hiri_search.language.dense_network import InputSize, square_side
from hiri_search.study.config.networks import Candidate
from hiri_search.study.config.schema import StudyConfig
from hiri_search.study.ledger.values import NetworkFacts, StandIn, to_json
from hiri_search.training.job import PreparedData

PreparedBySide = dict[int, PreparedData]  # key: image side in training, in pixels


def fingerprints(prepared: PreparedBySide) -> dict[str, str]:
    """Return the content fingerprint of the images by side; sides are text, as keys of JSON must be."""
    return {str(side): images.folder.name for side, images in prepared.items()}


def network_facts(candidate: Candidate, study: StudyConfig, prepared: PreparedBySide) -> NetworkFacts:
    """Return what the ledger records of a network when a trial of it is asked for."""
    network = network_costs(candidate, study, prepared)
    if not study.searches_by_latency:
        return network
    # A search needs the time before it proposes other networks; running trials disturb the measurement.
    return replace(network, ms_per_image=milliseconds(study, candidate.network))


def milliseconds(study: StudyConfig, network: Network) -> float | None:
    """Measure the inference time of one image; None where the network does not fit into memory."""
    networks = {str(network): (network, study.counted.square)}
    _, latency = next(measure_latencies(networks, study.latency or LatencyConfig(), classes=study.counted.classes))
    return latency.ms_per_image if isinstance(latency, Latency) else None


def check_own_kinds(study: StudyConfig, candidates: Iterable[Candidate]) -> None:
    """Raise SpecError where a kind of the user's own builds something that cannot be trained or counted."""
    for candidate in candidates:
        _check_kinds_of(candidate.name, candidate.network, candidate.side, study.counted.classes)
        _check_kinds_of(candidate.name, candidate.trained, candidate.trained_side, study.counted.classes)


def _check_kinds_of(name: str, network: Network | None, side: InputSize, classes: int) -> None:
    if isinstance(network, Net):
        check_kinds(network, square_side(side), classes=classes)
    elif isinstance(network, DenseNetwork):
        try:
            check_dense_kinds(network, side)
        except SpecError as error:
            raise SpecError(f"nets.{name}: {error.message}") from error


def network_costs(candidate: Candidate, study: StudyConfig, prepared: PreparedBySide) -> NetworkFacts:
    """Return the costs of a network and of its stand-in."""
    parts = count_parts(candidate.network, candidate.side, classes=study.counted.classes)
    return NetworkFacts(
        name=candidate.name,
        key=candidate.network.key,
        spec=str(candidate.network),
        side=candidate.side,
        **asdict(sum(parts.values(), ZERO)),
        by_part={name: (cost.params, cost.macs) for name, cost in parts.items()},
        stand_in=_stand_in(candidate, study, prepared),
    )


def _stand_in(candidate: Candidate, study: StudyConfig, prepared: PreparedBySide) -> StandIn | None:
    if candidate.trained is None:
        return None
    side = candidate.trained_side
    cost = count(candidate.trained, side, classes=len(prepared[side].classes))
    has_choices = any(row.setting for row in (study.nets or {}).values())  # then the recipe of the study may change
    recipe = None if candidate.recipe == study.recipe and not has_choices else to_json(candidate.recipe)
    return StandIn(str(candidate.trained), side, cost.params, cost.macs, recipe, candidate.width_divisor)
