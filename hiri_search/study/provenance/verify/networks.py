"""Checks of networks: spec, key, costs counted again."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from hiri_search.cost.count_cache import cache_disabled
from hiri_search.cost.flops import Cost, CountError, count
from hiri_search.language import SpecError, parse_network
from hiri_search.study.config.networks import Candidate, network_of
from hiri_search.study.ledger.events import Event
from hiri_search.study.provenance.record import Record, Source, own_name
from hiri_search.study.provenance.verify.finding import Finding, Findings
from hiri_search.study.search.visited import UnvisitedSpace
from hiri_search.system.files import Say

SAMPLE = 20  # networks that a quick check counts again
SAY_SECONDS = 5.0


def check_names(record: Record) -> Iterator[tuple[str, Event]]:
    """Whatever a ledger says of a network, with a name for it."""
    for event in record.events:
        if event["event"] == "asked":
            yield f"trial {event['trial']}", event
        elif event["event"] == "counted":
            yield f"the network counted as {event['name']!r}", event


def check_specs(record: Record) -> Finding:
    """Each is a network, its key is its own, and it is the one that the study asks for."""
    checked, spaces = Findings.none(), {name: _space(source) for name, source in record.sources.items()}
    keys: dict[str, str] = {}
    for name, event in check_names(record):
        try:
            own = keys.setdefault(event["spec"], parse_network(event["spec"]).key)
            wanted = _wanted(event, record.source(event), spaces[event.get("merged_from", "")])
        except (SpecError, LookupError) as error:
            checked.faults.append(f"{name}: {error}")
            continue
        if own != event["key"]:
            checked.faults.append(f"{name}: its key is {event['key']}, and that of its spec is {own}")
        checked.faults += [f"{name}: {fault}" for fault in (_unlike(event, wanted) if wanted else ())]
    checked.remarks.append(f"{len(keys):,} networks are those of the study, by text and key")
    return checked.of("networks")


def _space(source: Source) -> UnvisitedSpace | None:
    return UnvisitedSpace(space) if (space := source.networks.space) else None


def _wanted(event: Event, source: Source, space: UnvisitedSpace | None) -> Candidate | None:
    """What the study asks for under the name of a row, or by the decisions; LookupError where it has no such."""
    if space is not None:
        if "decisions" not in event:
            return None  # a second look, which repeats a first one
        return network_of(source.study, *space.replay(event["decisions"]))
    name = own_name(event)
    if name not in source.rows:
        raise LookupError(f"the study has no row {name!r}")
    return source.rows[name]


def _unlike(event: Event, wanted: Candidate) -> Iterator[str]:
    """Where a line's network is another one than that of the study."""
    facts = {"spec": str(wanted.network), "side": wanted.side}
    if "trained_spec" in event or (event["event"] == "asked" and wanted.trained):
        facts |= {"trained_spec": str(wanted.trained), "trained_side": wanted.trained_side}
    for name, value in facts.items():
        if event.get(name) != value:
            yield f"{name} is {event.get(name)!r}, and by the study {value!r}"


@dataclass(frozen=True)
class Recount:
    """A network as it is counted."""

    spec: str
    side: int
    classes: int


def check_costs(record: Record, *, quick: bool, say: Say) -> Finding:
    """Params and multiply-adds as they are counted now: to the unit. Each network is counted once."""
    checked, told = Findings.none(), _told(record)
    some = Random(0).sample(list(told), min(SAMPLE, len(told))) if quick else list(told)
    with cache_disabled():
        for one in _slowly(some, say):
            checked.faults += _miscounted(one, told[one])
    share = f"{len(some):,} of {len(told):,}" if len(some) < len(told) else f"{len(told):,}"
    checked.remarks.append(f"{share} networks counted again come to the same params and multiply-adds")
    return checked.of("costs")


Told = tuple[str, Mapping[str, Any]]  # a name for the line, and the costs it says


def _told(record: Record) -> dict[Recount, list[Told]]:
    told: dict[Recount, list[Told]] = {}
    for name, event in check_names(record):
        source = record.source(event)
        whole = Recount(event["spec"], event["side"], source.study.counted.classes)
        told.setdefault(whole, []).append((name, {each: event[each] for each in ("params", "macs", "core_macs")}))
        if "trained_spec" in event:
            small = Recount(event["trained_spec"], event["trained_side"], source.images["classes"])
            costs = {each: event[f"trained_{each}"] for each in ("params", "macs") if f"trained_{each}" in event}
            told.setdefault(small, []).append((f"the stand-in of {name}", costs))
    return told


def _slowly(some: list[Recount], say: Say) -> Iterator[Recount]:
    """Says how far it is, every few seconds."""
    said = time.monotonic()
    for done, one in enumerate(some):
        if time.monotonic() - said > SAY_SECONDS:
            said = time.monotonic()
            say(f"{done:,} of {len(some):,} networks counted")
        yield one


def _miscounted(one: Recount, told: Iterable[Told]) -> Iterator[str]:
    try:
        cost = count(parse_network(one.spec), one.side, classes=one.classes)
    except (SpecError, CountError) as error:
        yield f"{next(iter(told))[0]} cannot be counted: {error}"
        return
    for name, costs in told:
        yield from (f"{name}: {each}" for each in _differing(cost, costs))


def _differing(cost: Cost, told: Mapping[str, Any]) -> Iterator[str]:
    for name, value in told.items():
        if getattr(cost, name) != value:
            yield f"{name} is {value:,} in the ledger, and {getattr(cost, name):,} counted now"
