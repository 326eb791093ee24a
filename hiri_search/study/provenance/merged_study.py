"""The study of a merged folder: compatibility, row names, union of rows and seeds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from hiri_search.language import parse_network
from hiri_search.study.config.identity import canonical_form, differences, timing_machine
from hiri_search.study.config.networks import scaled_side, stand_in, width_divisor
from hiri_search.study.config.schema import NetworkRow, StudyConfig
from hiri_search.study.errors import StudyError
from hiri_search.study.ledger.values import NetworkFacts, changed_inputs
from hiri_search.study.provenance.record import Record, Source
from hiri_search.training.job import DataSource

ADDED = ("nets", "seeds")  # a union has more of these
ASKING = ("sampler", "networks", "seed", "start")  # settings of a search that no trial depends on
Identity = tuple[object, ...]  # everything that decides costs and result of a network, but for the seed


def incompatibilities(first: Record, second: Record) -> list[str]:
    """Return the differences that decide results. StudyError where one is a search and the other an ablation."""
    ours, theirs = first.own, second.own
    if (ours.study.space is None) != (theirs.study.space is None):
        raise StudyError(f"{first.folder} and {second.folder} are an ablation and a search; these are not merged")
    sides = sorted(ours.images.fingerprints.keys() & theirs.images.fingerprints.keys())
    shared = {side: (ours.images.fingerprints[side], theirs.images.fingerprints[side]) for side in sides}
    same_images = bool(shared) and all(old == new for old, new in shared.values())
    images = [f"images at side {side}: {old} -> {new}" for side, (old, new) in shared.items() if old != new]
    settings = differences(*(_deciding(source.study, data=not same_images) for source in (ours, theirs)))
    old_weights, new_weights = first.started.weights, second.started.weights
    changed = changed_inputs(old_weights, new_weights)
    weights = [f"weights {path}: {old_weights[path]} -> {new_weights[path]}" for path in changed]
    if ours.study.searches_by_latency:
        settings += differences(*({"machine": timing_machine(each.started.machine)} for each in (first, second)))
    return [*settings, *images, *weights]


def _deciding(study: StudyConfig, *, data: bool) -> dict[str, Any]:
    """Return the settings that must be equal; where the images are equal, their place does not matter."""
    added = ADDED[: 1 if study.auto_seeds else None]
    settings = {name: value for name, value in canonical_form(study).items() if name not in added}
    if "search" in settings:
        settings["search"] = {name: value for name, value in settings["search"].items() if name not in ASKING}
    return settings if data else {name: value for name, value in settings.items() if name != "data"}


def identity(network: NetworkFacts, source: Source) -> Identity:
    """Return the identity of a network, trained or only counted."""
    counted = (network.key, network.side, source.study.counted.classes)
    if network.stand_in is None:
        return counted
    job = source.networks.job(network, seed=0)
    return (*counted, replace(job, data=DataSource()), source.images.fingerprints.get(str(job.side)))


class RowNames:
    """Names of rows in a union: as in their study, or with their folder where another row has that name."""

    def __init__(self) -> None:
        self._identities: dict[str, Identity] = {}

    def name(self, network: NetworkFacts, source: Source, folder: str) -> str:
        own, wanted = network.name, identity(network, source)
        name = own if self._identities.setdefault(own, wanted) == wanted else f"{own} ({folder})"
        if self._identities.setdefault(name, wanted) != wanted:
            raise StudyError(f"there are several rows {name!r} with unlike networks or recipes; rename one of them")
        return name


def join_studies(
    studies: Sequence[StudyConfig], rows: Mapping[str, tuple[StudyConfig, str]], networks: int
) -> StudyConfig:
    """Return the union: the first study with the rows and seeds of all.

    `rows` gives for each name the study of the row and its name there; `networks` counts those of a search.
    """
    first = studies[0]
    content = first.model_dump(mode="json")
    content["seeds"] = list(dict.fromkeys(seed for study in studies for seed in study.first_seeds))
    if ruled := next((study for study in studies if study.auto_seeds), None):  # whose tests need the correction
        content |= ruled.model_dump(mode="json", include={"seeds", "compare"})
    if first.space is None:
        nets = {name: _row(name, first, *own) for name, own in rows.items()}
        if mixed := {row.setting.row for row in nets.values() if row.setting} & set(nets):
            names = ", ".join(sorted(mixed))
            raise StudyError(f"recipes of {names}: with choices in one study, and without in another; rename a row")
        content["nets"] = {name: row.model_dump(mode="json") for name, row in nets.items()}
    else:
        content["search"]["networks"] = networks
    return StudyConfig.model_validate(content)


def _row(name: str, first: StudyConfig, study: StudyConfig, own_name: str) -> NetworkRow:
    """Return a row as the first study must write it, so that it means the same as in its own study."""
    assert study.nets is not None
    row = study.nets[own_name]
    changed = dict(_spelled_out(first, study, row)) if study is not first else {}
    if row.setting and (folder := name.removeprefix(own_name)):  # a row of this name and another network comes first
        changed["setting"] = row.setting.model_copy(update={"row": row.setting.row + folder})
    return row.model_copy(update=changed)


def _spelled_out(first: StudyConfig, study: StudyConfig, row: NetworkRow) -> Iterator[tuple[str, Any]]:
    """Yield the settings of a row that its own study leaves to defaults which differ in the first study."""
    network = parse_network(row.spec, let=study.let)
    yield "spec", str(network)
    if row.stand_in:
        yield "stand_in", str(parse_network(row.stand_in, let=study.let))
    if study.recipe != first.recipe and not row.recipe:
        yield "recipe", study.recipe
    if study.method != first.method and not row.method:
        yield "method", study.method
    if study.counted.side != first.counted.side and not row.side:
        yield "side", study.counted.side
    if not row.train:
        return
    if study.proxy != first.proxy and not row.stand_in:
        yield "stand_in", str(stand_in(network, study.proxy))
        yield "stand_in_width", width_divisor(network, study.proxy)
    sides = [(each.proxy.side, each.counted.side) for each in (first, study)]
    if sides[0] != sides[1] and not row.stand_in_side:
        yield "stand_in_side", scaled_side(row.side or study.counted.side, study)


def study_of_row(record: Record, network: NetworkFacts) -> tuple[StudyConfig, str]:
    """Return the study that a network belongs to, and its name there; in a merged folder, its union comes first."""
    own = record.own.study
    if own.nets is not None and network.name in own.nets:
        return own, network.name
    return record.source(network).study, network.own_name
