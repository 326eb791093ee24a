"""Merge results folders into a new one."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from hiri_search.study.config.networks import has_row, in_row_order
from hiri_search.study.errors import StudyError
from hiri_search.study.ledger import events
from hiri_search.study.ledger.events import FolderMerged, NetworkCounted, TrialAsked, TrialEvent
from hiri_search.study.ledger.json_lines import write_line
from hiri_search.study.ledger.layout import CHECKPOINTS, LEDGER
from hiri_search.study.ledger.ledger import of_kind, read_ledger
from hiri_search.study.ledger.lock import holder, locked
from hiri_search.study.ledger.trial import Trial, reproduced, training_digest
from hiri_search.study.ledger.values import LedgerSum, NetworkFacts
from hiri_search.study.persistence.checkpoints import existing
from hiri_search.study.provenance.environment import RunEnvironment
from hiri_search.study.provenance.manifest import check_unchanged, runs
from hiri_search.study.provenance.merged_study import RowNames, incompatibilities, join_studies, study_of_row
from hiri_search.study.provenance.record import Record, read_record
from hiri_search.system.files import atomic_write
from hiri_search.system.redaction import short_path
from hiri_search.system.text import storable


@dataclass(frozen=True)
class SourceFolder:
    """One of the folders to merge."""

    record: Record
    label: str  # its name in the merged ledger
    origins: Mapping[str, FolderMerged]  # itself and the folders that it was merged from, by their names in its ledger


@dataclass(frozen=True)
class MergedNetwork:
    """A network, of a trial or only counted, with its name in the merged ledger."""

    part: SourceFolder
    network: NetworkFacts
    name: str

    @property
    def first_folder(self) -> str:
        """The folder that trained or counted it first."""
        return self.part.origins[self.network.merged_from].folder

    def renamed(self) -> NetworkFacts:
        """Return the network as the merged ledger records it."""
        own = self.network.own_name
        merged_name = own if own != self.name else ""
        return replace(self.network, name=self.name, merged_from=self.first_folder, merged_name=merged_name)


_Choice: TypeAlias = tuple[SourceFolder, Trial, str]  # a trial with its folder and the name of its network


@dataclass(frozen=True)
class MergePlan:
    """Everything that is merged."""

    parts: tuple[SourceFolder, ...]
    overlooked: tuple[str, ...]  # differences that the user accepted
    counted: tuple[MergedNetwork, ...]
    trials: Mapping[tuple[str, int], MergedNetwork]  # the trials taken, by label and number in their folder
    numbers: Mapping[tuple[str, int], int]  # of all trials, in the merged ledger


def merge(folders: Sequence[Path], into: Path, environment: RunEnvironment, *, unlike: bool = False) -> tuple[str, ...]:
    """Write `into`: a ledger with the trials of all folders, and copies of their checkpoints; return differences.

    The folders are only read. StudyError where a folder is in use or was changed after its manifest; where the studies
    differ, unless `unlike` accepts it; where one training has two results; where `into` is not empty.
    """
    if into.exists() and any(into.iterdir()):
        raise StudyError(f"{into} is not empty; give a new folder with -o")
    parts = _with_own_names([_part(folder) for folder in folders])
    if len({part.label for part in parts}) < len(parts):
        raise StudyError(f"{parts[0].label} is given twice; give folders of different runs")
    differing = tuple(line for part in parts[1:] for line in incompatibilities(parts[0].record, part.record))
    if differing and not unlike:
        listed = "\n  ".join(differing)
        raise StudyError(f"{' and '.join(map(str, folders))} are unlike:\n  {listed}\n--unlike merges them anyway")
    plan = _plan(parts, differing)
    with locked(into):
        _copy_checkpoints(plan, into)
        with atomic_write(into / LEDGER) as file:
            file.writelines(write_line(event) + b"\n" for event in _events(plan, environment))
    return differing


def _part(folder: Path) -> SourceFolder:
    """Read one folder. StudyError where it is in use or was changed."""
    ledger, held = read_ledger(folder), holder(folder)
    if held.held:
        raise StudyError(f"{folder} is in use by process {held.who}; wait for it, or stop it")
    check_unchanged(ledger)
    record, label = read_record(ledger), storable(short_path(str(folder)))
    itself = FolderMerged(
        folder=label,
        ledger=ledger.sum,
        runs=tuple(runs(record.events)),
        code_digest=record.started.code.digest,
        file=record.started.file,
        images=record.started.images,
    )
    earlier = {event.folder: event for event in of_kind(record.events, FolderMerged)}
    return SourceFolder(record, label, earlier | {"": itself})


def _with_own_names(parts: Sequence[SourceFolder]) -> tuple[SourceFolder, ...]:
    """Return the folders with another name for each that two of them were merged from under one name.

    Merges on two machines, or in two working folders, may call unlike folders `results/a`.
    """
    sums: dict[str, LedgerSum] = {part.label: part.origins[""].ledger for part in parts}

    def own(event: FolderMerged, part: SourceFolder) -> FolderMerged:
        name = event.folder
        if sums.setdefault(name, event.ledger) != event.ledger:
            name = f"{name} ({part.label})"
        return replace(event, folder=name)

    return tuple(
        replace(part, origins={name: own(event, part) for name, event in part.origins.items()}) for part in parts
    )


def _plan(parts: tuple[SourceFolder, ...], differing: tuple[str, ...]) -> MergePlan:
    names = RowNames()
    counted: dict[str, MergedNetwork] = {}
    chosen: dict[tuple[object, ...], _Choice] = {}  # by row name, seed and epochs
    identities: dict[tuple[str, int], tuple[object, ...]] = {}
    for part in parts:
        own = part.record.own.study
        for network in in_row_order(own, (e.network for e in of_kind(part.record.events, NetworkCounted))):
            name = names.name(network, part.record.source(network), part.label)
            counted.setdefault(name, MergedNetwork(part, network, name))
        for trial in (trial for trial in part.record.trials if has_row(own, trial.network)):
            name = names.name(trial.network, part.record.source(trial.network), part.label)
            identity = identities[part.label, trial.number] = (name, trial.asked.seed, trial.asked.confirm_epochs)
            chosen[identity] = _better(chosen.get(identity), (part, trial, name))
    order = {identity: number for number, identity in enumerate(chosen)}
    numbers = {place: order[identity] for place, identity in identities.items()}
    taken = {
        (part.label, trial.number): MergedNetwork(part, trial.network, name) for part, trial, name in chosen.values()
    }
    return MergePlan(parts, differing, tuple(counted.values()), taken, numbers)


def _better(first: _Choice | None, second: _Choice) -> _Choice:
    """Return the finished one of two identical trials. StudyError where both have finished with unequal curves."""
    if first is None:
        return second
    (ours, our_trial, _), (theirs, their_trial, _) = first, second
    both_finished = our_trial.state == their_trial.state == "finished"
    if both_finished and reproduced(our_trial.curve) != reproduced(their_trial.curve):
        both = f"trial {our_trial.number} of {ours.label} and trial {their_trial.number} of {theirs.label}"
        name = ours.record.own.study.headline.name
        scores = " and ".join(str(trial.curve[-1].score(name)) for trial in (our_trial, their_trial))
        way_out = "no merge can decide which is right; leave one of the folders out, or train it again"
        raise StudyError(f"{both} are one training with two results, last {name} {scores}: {way_out}")
    return second if their_trial.state == "finished" and our_trial.state != "finished" else first


def _events(plan: MergePlan, environment: RunEnvironment) -> Iterator[events.Event]:
    """Yield the merged ledger: a study, and the events of the trials that were taken from each folder."""
    yield events.LedgerStarted(format=events.FORMAT)
    yield _study(plan, environment)
    timed: set[tuple[object, ...]] = set()
    for part in plan.parts:
        for event in part.origins.values():
            yield event
            counted = (item for item in plan.counted if item.part is part and item.first_folder == event.folder)
            yield from (NetworkCounted(network=item.renamed()) for item in counted)
            yield from _trial_events(plan, part, event.folder)
        for measured in of_kind(part.record.events, events.InferenceTimed):
            identity = (measured.key, measured.side, measured.setting)
            if identity not in timed:
                timed.add(identity)
                yield measured


def _study(plan: MergePlan, environment: RunEnvironment) -> events.StudyStarted:
    records = [part.record for part in plan.parts]
    first = records[0].started
    rows = {item.name: study_of_row(item.part.record, item.network) for item in plan.counted}
    networks = len({taken.network.training for taken in plan.trials.values()})
    study = join_studies([record.own.study for record in records], rows, networks)
    keys = {side: key for record in reversed(records) for side, key in record.started.images.fingerprints.items()}
    return events.StudyStarted(
        file=study.model_dump(mode="json"),
        profile=", ".join(dict.fromkeys(record.started.profile for record in records)),
        device="; ".join(dict.fromkeys(record.started.device for record in records)),
        images=replace(first.images, fingerprints=keys, test=min(record.started.images.test for record in records)),
        weights={path: key for record in reversed(records) for path, key in record.started.weights.items()},
        adapted=tuple(dict.fromkeys(line for record in records for line in record.started.adapted)),
        merged_from=tuple(part.label for part in plan.parts),
        overlooked=tuple(
            dict.fromkeys([*(line for record in records for line in record.started.overlooked), *plan.overlooked])
        ),
        code=environment.code,
        command=environment.command,
        versions=environment.versions,
        machine=first.machine,  # on which a search by measured time continues
        time=round(time.time(), 3),
    )


def _trial_events(plan: MergePlan, part: SourceFolder, origin: str) -> Iterator[TrialEvent]:
    """Yield the events of the trials taken from a folder, with their numbers in the merged ledger."""
    for event in of_kind(part.record.events, TrialEvent):
        taken = plan.trials.get((part.label, event.trial))
        if taken is None or taken.first_folder != origin:
            continue
        number = plan.numbers[part.label, event.trial]
        if isinstance(event, TrialAsked):
            yield _asked(plan, part, event, taken)
        elif isinstance(event, events.TrialFinished) and event.source.startswith("trial "):
            source = plan.numbers.get((part.label, int(event.source.split()[1])))
            yield replace(
                event, trial=number, source=f"{part.label}: {event.source}" if source is None else f"trial {source}"
            )
        else:
            yield replace(event, trial=number)


def _asked(plan: MergePlan, part: SourceFolder, event: TrialAsked, taken: MergedNetwork) -> TrialAsked:
    return replace(
        event,
        trial=plan.numbers[part.label, event.trial],
        network=taken.renamed(),
        confirms=None if event.confirms is None else plan.numbers[part.label, event.confirms],
        merged_trial=event.trial if event.merged_trial is None else event.merged_trial,
    )


def _copy_checkpoints(plan: MergePlan, into: Path) -> None:
    for part in plan.parts:
        wanted = {training_digest(trial) for trial in part.record.trials if (part.label, trial.number) in plan.trials}
        for name in sorted(wanted & existing(part.record.folder)):
            target = into / CHECKPOINTS / name
            if not target.exists():
                shutil.copytree(part.record.folder / CHECKPOINTS / name, target)
