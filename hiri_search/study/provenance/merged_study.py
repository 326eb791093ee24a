"""The study of a merged folder: compatibility, row names, union of rows and seeds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from hiri_search.language import parse_network
from hiri_search.study.config.identity import canonical_form, differences
from hiri_search.study.config.networks import stand_in
from hiri_search.study.config.schema import NetworkRow, Study
from hiri_search.study.errors import StudyError
from hiri_search.study.ledger.events import Event
from hiri_search.study.provenance.record import Record, Source, own_name
from hiri_search.training.job import DataSource, Job

ADDED = ("nets", "seeds")  # what a union has more of
ASKING = ("sampler", "networks", "seed")  # of a search: how networks were asked for, which no trial depends on
Same = tuple[object, ...]  # all that decides what a network costs and comes to, but for the seed


def incompatibilities(one: Record, other: Record) -> list[str]:
    """What decides results and differs: `recipe.epochs: 12 -> 14`. StudyError where one is a search and one is not."""
    ours, theirs = one.sources[""], other.sources[""]
    if (ours.study.space is None) != (theirs.study.space is None):
        raise StudyError(f"{one.folder} and {other.folder} are an ablation and a search; these are not merged")
    there = sorted(ours.images["keys"].keys() & theirs.images["keys"].keys())
    shared = {side: (ours.images["keys"][side], theirs.images["keys"][side]) for side in there}
    same_images = bool(shared) and all(old == new for old, new in shared.values())
    images = [f"images at side {side}: {old} -> {new}" for side, (old, new) in shared.items() if old != new]
    return [*differences(*(_deciding(source.study, data=not same_images) for source in (ours, theirs))), *images]


def _deciding(study: Study, *, data: bool) -> dict[str, Any]:
    """What both must have alike; where their images are the same, it is no matter where these lie."""
    known = {name: value for name, value in canonical_form(study).items() if name not in ADDED}
    if "search" in known:
        known["search"] = {name: value for name, value in known["search"].items() if name not in ASKING}
    return known if data else {name: value for name, value in known.items() if name != "data"}


def same(event: Event, source: Source) -> Same:
    """Of a line that tells of a network, trained or only counted."""
    counted = (event["key"], event["side"], source.study.counted.classes)
    if "trained_spec" not in event:
        return counted
    plain = {name: value for name, value in event.items() if name != "confirm_epochs"}
    job: Job = source.job({**plain, "seed": 0})
    images = source.images["keys"].get(str(job.side))
    return (*counted, replace(job, data=DataSource()), images)


class RowNames:
    """What rows are called in a union: as in their study, and where that is another row's name, with its folder."""

    def __init__(self) -> None:
        self._known: dict[str, Same] = {}

    def name(self, event: Event, source: Source, folder: str) -> str:
        own, found = str(event["name"]), same(event, source)
        name = own if self._known.setdefault(own, found) == found else f"{own} ({folder})"
        if self._known.setdefault(name, found) != found:
            raise StudyError(f"there are several rows {name!r} with unlike networks or recipes; rename one of them")
        return name


def join_studies(studies: Sequence[Study], rows: Mapping[str, tuple[Study, str]], networks: int) -> Study:
    """The union: the first of the studies with all rows and seeds; `rows` says of each name whose it is, and its name
    there. Of a search, `networks` are as many as there are."""
    first = studies[0]
    content = first.model_dump(mode="json")
    content["seeds"] = list(dict.fromkeys(seed for study in studies for seed in study.seeds))
    if first.space is None:
        content["nets"] = {name: _row(first, *own).model_dump(mode="json") for name, own in rows.items()}
    else:
        content["search"]["networks"] = networks
    return Study.model_validate(content)


def _row(first: Study, study: Study, own: str) -> NetworkRow:
    """A row as it must be written in the study of another, to mean what it means in its own."""
    assert study.nets is not None
    row = study.nets[own]
    changed = dict(_spelled_out(first, study, row)) if study is not first else {}
    return row.model_copy(update=changed)


def _spelled_out(first: Study, study: Study, row: NetworkRow) -> Iterator[tuple[str, Any]]:
    network = parse_network(row.spec, let=study.let)
    yield "spec", str(network)
    if row.stand_in:
        yield "stand_in", str(parse_network(row.stand_in, let=study.let))
    if study.recipe != first.recipe and not row.recipe:
        yield "recipe", study.recipe
    if study.counted.side != first.counted.side and not row.side:
        yield "side", study.counted.side
    if not row.train:
        return
    if study.proxy != first.proxy and not row.stand_in:
        yield "stand_in", str(stand_in(network, study.proxy))
    sides = [(one.proxy.side, one.counted.side) for one in (first, study)]
    if sides[0] != sides[1] and not row.stand_in_side:
        yield "stand_in_side", (row.side or study.counted.side) * study.proxy.side // study.counted.side


def rows_of(record: Record, event: Event) -> tuple[Study, str]:
    """The study whose row a line tells of, and what it calls it; of a merged folder, the union's own words."""
    name = str(event["name"])
    own = record.sources[""].study
    if own.nets is not None and name in own.nets:
        return own, name
    return record.source(event).study, own_name(event)
