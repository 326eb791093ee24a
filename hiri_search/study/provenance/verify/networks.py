"""Checks of networks: spec, key, costs counted again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from random import Random

from hiri_search.cost.count_cache import cache_disabled
from hiri_search.cost.flops import count
from hiri_search.cost.operators import CountError
from hiri_search.language import SpecError, parse_network
from hiri_search.language.dense_network import InputSize
from hiri_search.networks import is_ours_or_timms
from hiri_search.study.config.networks import Candidate, network_of
from hiri_search.study.ledger.events import Event, NetworkCounted, TrialAsked
from hiri_search.study.ledger.values import NetworkFacts
from hiri_search.study.provenance.record import Record, Source
from hiri_search.study.provenance.verify.finding import Finding, Findings
from hiri_search.system.concurrency import with_progress
from hiri_search.system.files import Say
from hiri_search.user_code import loaded_digests

SAMPLE = 20  # networks that a quick check counts again
SAY_SECONDS = 5.0  # between two messages of progress


def _recorded_networks(record: Record) -> Iterator[tuple[str, Event, NetworkFacts]]:
    """Yield every network of a ledger with a name for its event."""
    for event in record.events:
        if isinstance(event, TrialAsked):
            yield f"trial {event.trial}", event, event.network
        elif isinstance(event, NetworkCounted):
            yield f"the network counted as {event.network.name!r}", event, event.network


def check_specs(record: Record) -> Finding:
    """Check that each spec is a network, that its key is right, and that the study asks for it."""
    checked, keys = Findings(), dict[str, str]()
    for name, event, network in _recorded_networks(record):
        try:
            key = keys.setdefault(network.spec, parse_network(network.spec).key)
            wanted = _wanted(event, network, record.source(network))
        except (SpecError, LookupError) as error:
            checked.faults.append(f"{name}: {error}")
            continue
        if key != network.key:
            checked.faults.append(f"{name}: its key is {network.key}, and that of its spec is {key}")
        checked.faults += [f"{name}: {fault}" for fault in (_unlike(event, network, wanted) if wanted else ())]
    checked.remarks.append(f"{len(keys):,} networks have the spec and key that the study gives")
    return checked.finding("networks")


def _wanted(event: Event, network: NetworkFacts, source: Source) -> Candidate | None:
    """Return the network that the study asks for; None for a confirmation. LookupError where there is no such row."""
    if (space := source.networks.space) is not None:
        if not isinstance(event, TrialAsked) or event.confirms is not None:
            return None  # a confirmation repeats the network of another trial
        return network_of(source.study, space.replay(event.decisions), event.decisions)
    if network.own_name not in source.row_by_name:
        raise LookupError(f"the study has no row {network.own_name!r}")
    return source.row_by_name[network.own_name]


def _unlike(event: Event, network: NetworkFacts, wanted: Candidate) -> Iterator[str]:
    """Yield the differences between the network of an event and that of the study."""
    pairs = {"spec": (network.spec, str(wanted.network)), "side": (network.side, wanted.side)}
    if network.stand_in or (isinstance(event, TrialAsked) and wanted.trained):
        stand_in = network.stand_in
        pairs["trained_spec"] = (stand_in.spec if stand_in else "", str(wanted.trained))
        pairs["trained_side"] = (stand_in.side if stand_in else 0, wanted.trained_side)
        pairs["width_divisor"] = (stand_in.width_divisor if stand_in else 0, wanted.width_divisor)
    for name, (recorded, expected) in pairs.items():
        if recorded != expected:
            yield f"{name} is {recorded!r}, and by the study {expected!r}"


@dataclass(frozen=True)
class Recount:
    """A network to be counted again."""

    spec: str
    side: InputSize
    classes: int
    code: tuple[tuple[str, str], ...]  # digests of the code of its study


def check_costs(record: Record, *, quick: bool, say: Say) -> Finding:
    """Check that params and multiply-adds, counted again, are exactly those of the ledger; each network once."""
    checked, recorded = Findings(), _recorded(record)
    foreign = [network for network in recorded if network.code and not _can_count(network)]
    for network in foreign:
        del recorded[network]
    chosen = Random(0).sample(list(recorded), min(SAMPLE, len(recorded))) if quick else list(recorded)
    with cache_disabled():
        line = f"{{done}} of {len(chosen):,} networks counted"
        for network in with_progress(chosen, say, line, every=SAY_SECONDS):
            checked.faults += _miscounted(network, recorded[network])
    checked.remarks += [f"{len(foreign):,} networks of the study's own code were not counted"] if foreign else []
    share = f"{len(chosen):,} of {len(recorded):,}" if len(chosen) < len(recorded) else f"{len(recorded):,}"
    checked.remarks.append(f"{share} networks counted again have the same params and multiply-adds")
    return checked.finding("costs")


Recorded = tuple[str, Mapping[str, int]]  # a name for the event, and the costs in it


def _recorded(record: Record) -> dict[Recount, list[Recorded]]:
    """Return the costs that the ledger records for each network, stand-ins included."""
    costs: dict[Recount, list[Recorded]] = {}
    for name, _, network in _recorded_networks(record):
        source = record.source(network)
        code = tuple(source.study.code.files.items())
        whole = Recount(network.spec, network.side, source.study.counted.classes, code)
        numbers = {"params": network.params, "macs": network.macs, "core_macs": network.core_macs}
        costs.setdefault(whole, []).append((name, numbers))
        if stand_in := network.stand_in:
            counted = Recount(stand_in.spec, stand_in.side, source.images.classes, code)
            numbers = {"params": stand_in.params, "macs": stand_in.macs}
            costs.setdefault(counted, []).append((f"the stand-in of {name}", numbers))
    return costs


def _can_count(network: Recount) -> bool:
    """Return whether a network is of this package or of timm, or the code of its study is imported."""
    if dict(network.code) == loaded_digests():
        return True
    try:
        parsed = parse_network(network.spec)
    except SpecError:
        return False
    return is_ours_or_timms(parsed)


def _miscounted(network: Recount, recorded: Iterable[Recorded]) -> Iterator[str]:
    try:
        cost = count(parse_network(network.spec), network.side, classes=network.classes)
    except (SpecError, CountError) as error:
        yield f"{next(iter(recorded))[0]} cannot be counted: {error}"
        return
    for name, costs in recorded:
        for kind, value in costs.items():
            if (counted := getattr(cost, kind)) != value:
                yield f"{name}: {kind} is {value:,} in the ledger, and {counted:,} counted now"
