"""Merging results folders."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hiri_search.study.config.identity import study_record
from hiri_search.study.errors import StudyError
from hiri_search.study.ledger.checksums import RunningChecksum, check_lines
from hiri_search.study.ledger.events import MERGED, TIME, Event
from hiri_search.study.ledger.layout import CHECKPOINTS, LEDGER
from hiri_search.study.ledger.ledger import as_line, read_events, read_lines
from hiri_search.study.ledger.lock import holder, locked
from hiri_search.study.ledger.trial import Trial, reproduced, training_digest
from hiri_search.study.persistence.checkpoints import existing
from hiri_search.study.provenance.manifest import anchor, runs
from hiri_search.study.provenance.merged_study import RowNames, incompatibilities, join_studies, rows_of
from hiri_search.study.provenance.record import Record, own_name, read_record
from hiri_search.system.files import atomic_write
from hiri_search.system.redaction import short_path


@dataclass(frozen=True)
class SourceFolder:
    """One of the folders."""

    record: Record
    label: str  # what the merged ledger calls it
    events: tuple[Event, ...]  # with their times


@dataclass(frozen=True)
class MergedTrial:
    """A trial, or a network that was only counted, as it will stand in the merged ledger."""

    part: SourceFolder
    event: Event  # that tells of the network
    name: str  # there

    @property
    def origin(self) -> str:
        """The folder that it is from, at first."""
        return str(self.event.get("merged_from", self.part.label))


@dataclass(frozen=True)
class MergePlan:
    """All that is merged."""

    parts: tuple[SourceFolder, ...]
    overlooked: tuple[str, ...]  # in what they are unlike
    counted: tuple[MergedTrial, ...]
    trials: Mapping[tuple[str, int], MergedTrial]  # by the label of the part and the number in it: those that are kept
    numbers: Mapping[tuple[str, int], int]  # of all trials, in the merged ledger


def merge(folders: Sequence[Path], into: Path, made_by: Event, *, told: bool = False) -> tuple[str, ...]:
    """Write `into`, a ledger with the trials of all and copies of their checkpoints; in what the folders are unlike.

    They are only read. StudyError where one is at work or does not fit its sums; where they are unlike, unless it is
    `told` to merge them all the same; where one training came to two curves; where `into` is not empty.
    """
    if into.exists() and any(into.iterdir()):
        raise StudyError(f"{into} is not empty; give a folder that is not there yet with -o")
    parts = tuple(_part(folder) for folder in folders)
    if len({part.label for part in parts}) < len(parts):
        raise StudyError(f"{parts[0].label} is given twice; give folders of different runs")
    differing = tuple(line for part in parts[1:] for line in incompatibilities(parts[0].record, part.record))
    if differing and not told:
        what = "\n  ".join(differing)
        raise StudyError(f"{' and '.join(map(str, folders))} are unlike:\n  {what}\n--unlike merges them all the same")
    union = _union(parts, differing)
    with locked(into):
        _copy_checkpoints(union, into)
        _write(into / LEDGER, _lines(union, made_by))
    return differing


def _part(folder: Path) -> SourceFolder:
    """StudyError where it cannot be built upon."""
    lines, held = read_lines(folder), holder(folder)
    if held.held:
        raise StudyError(f"{folder} is in use by process {held.who}; wait for it, or stop it")
    check_lines(lines, folder / LEDGER)
    record = read_record(folder, read_events(folder))
    return SourceFolder(record, short_path(str(folder)), tuple(read_events(folder, timed=True)))


# ---- what is taken


def _union(parts: tuple[SourceFolder, ...], differing: tuple[str, ...]) -> MergePlan:
    names = RowNames()
    counted: dict[str, MergedTrial] = {}
    trials: dict[
        tuple[object, ...], tuple[SourceFolder, Trial, str]
    ] = {}  # that are kept, by what makes them one trial
    whose: dict[tuple[str, int], tuple[object, ...]] = {}
    for part in parts:
        for event in (event for event in part.record.events if event["event"] == "counted"):
            name = names.name(event, part.record.source(event), part.label)
            counted.setdefault(name, MergedTrial(part, event, name))
        for trial in part.record.trials:
            name = names.name(trial.asked, part.record.source(trial.asked), part.label)
            own = whose[part.label, trial.number] = (name, trial.asked["seed"], trial.asked.get("confirm_epochs"))
            trials[own] = _better(trials.get(own), (part, trial, name))
    number = {own: place for place, own in enumerate(trials)}
    kept = {(part.label, trial.number): MergedTrial(part, trial.asked, name) for part, trial, name in trials.values()}
    return MergePlan(parts, differing, tuple(counted.values()), kept, {one: number[own] for one, own in whose.items()})


def _better(
    one: tuple[SourceFolder, Trial, str] | None, other: tuple[SourceFolder, Trial, str]
) -> tuple[SourceFolder, Trial, str]:
    """Of one trial in two folders, the one that has finished. StudyError where both have, with other digits."""
    if one is None:
        return other
    (ours, first, _), (theirs, second, _) = one, other
    if first.state == second.state == "finished" and reproduced(first.curve) != reproduced(second.curve):
        both = f"trial {first.number} of {ours.label} and trial {second.number} of {theirs.label}"
        tops = " and ".join(str(trial.curve[-1]["top1"]) for trial in (first, second))
        way_out = "no merge can say which is right; move one of the folders aside, or train it again"
        raise StudyError(f"{both} are one training and came to other digits, top1 {tops} at the end: {way_out}")
    return other if second.state == "finished" and first.state != "finished" else one


# ---- what is written


def _lines(union: MergePlan, made_by: Event) -> Iterator[Event]:
    """The merged ledger: a study, and what each folder has told of the trials that were taken from it."""
    yield _study(union, made_by)
    timed: set[tuple[object, ...]] = set()
    for part in union.parts:
        for origin, event in _origins(part).items():
            yield event
            yield from (_counted(one) for one in union.counted if one.part is part and one.origin == origin)
            yield from _of_trials(union, part, origin)
        for event in part.events:
            if event["event"] == "timed" and (event["key"], event["side"]) not in timed:
                timed.add((event["key"], event["side"]))
                yield event


def _study(union: MergePlan, made_by: Event) -> Event:
    records = [part.record for part in union.parts]
    first = records[0].about
    rows = {one.name: rows_of(one.part.record, one.event) for one in union.counted}
    networks = len({taken.event["key"] for taken in union.trials.values()})
    study = join_studies([record.sources[""].study for record in records], rows, networks)
    known: Event = study_record(study, ", ".join(dict.fromkeys(record.about["profile"] for record in records)))
    overlooked = [*first["meaning"].get("unlike", ()), *union.overlooked]
    images = {side: key for record in reversed(records) for side, key in record.about["images"]["keys"].items()}
    return {
        "event": "study",
        **known,
        "meaning": known["meaning"] | ({"unlike": overlooked} if overlooked else {}),
        "device": "; ".join(dict.fromkeys(record.about["device"] for record in records)),
        "images": first["images"] | {"keys": images},
        "merged_from": [part.label for part in union.parts],
        **made_by,
        TIME: round(time.time(), 3),
    }


def _origins(part: SourceFolder) -> dict[str, Event]:
    """What is kept of a folder, and of those that it was merged from itself."""
    own = part.record.about
    kept = {"folder": part.label, "ledger": anchor(part.record.folder), "runs": runs(part.events)}
    itself = {"event": MERGED, **kept, "file": own["file"], "images": own["images"]}
    before = {event["folder"]: event for event in part.events if event["event"] == MERGED}
    return {**before, part.label: itself}


def _counted(one: MergedTrial) -> Event:
    return {**one.event, **_where(one)}


def _where(one: MergedTrial) -> Event:
    """What a network is called there, whose it is, and what that calls it."""
    own = own_name(one.event)
    return {"name": one.name, "merged_from": one.origin} | ({"merged_name": own} if own != one.name else {})


def _of_trials(union: MergePlan, part: SourceFolder, origin: str) -> Iterator[Event]:
    """Their lines as they are, but for their numbers."""
    for event in part.events:
        taken = union.trials.get((part.label, event.get("trial", -1)))
        if taken is None or taken.origin != origin:
            continue
        changed = {**event, "trial": union.numbers[part.label, event["trial"]]}
        if event["event"] == "asked":
            changed |= _where(taken) | {"merged_trial": event.get("merged_trial", event["trial"])}
        if "confirms" in event:
            changed["confirms"] = union.numbers[part.label, event["confirms"]]
        if str(event.get("source", "")).startswith("trial "):
            changed["source"] = f"trial {union.numbers[part.label, int(event['source'].split()[1])]}"
        yield changed


def _copy_checkpoints(union: MergePlan, into: Path) -> None:
    for part in union.parts:
        wanted = {training_digest(trial) for trial in part.record.trials if (part.label, trial.number) in union.trials}
        for name in sorted(wanted & existing(part.record.folder)):
            target = into / CHECKPOINTS / name
            if not target.exists():
                shutil.copytree(part.record.folder / CHECKPOINTS / name, target)


def _write(path: Path, events: Iterator[Event]) -> None:
    sums = RunningChecksum()
    with atomic_write(path) as file:
        for event in events:
            line = sums.signed(as_line(event))
            sums.added(line)
            file.write(line + b"\n")
