"""Checks of ledger lines: checksums, and one study throughout."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from hiri_search.study.config.identity import differences, incompatible_changes, study_record
from hiri_search.study.config.schema import Study
from hiri_search.study.ledger.checksums import RunningChecksum, misfits, split
from hiri_search.study.ledger.events import MERGED, Event
from hiri_search.study.provenance.verify.finding import Finding, Findings

SAID = ("title", "table", "rows")  # what a run's first line repeats of its study
NEW = "-> (absent)"  # a setting that the version which wrote the ledger did not have
UNLIKE = "meaning.unlike"  # what a merge was told to overlook


def check_sums(lines: Sequence[bytes]) -> Finding:
    """Of lines of an earlier version, which have no sums, nothing is known."""
    found, running = Findings.none(), RunningChecksum()
    without = next((n for n, line in enumerate(lines) if split(line)[1]), len(lines))
    found.faults += [f"line {misfit.line}: {misfit.says}" for misfit in misfits(lines)]
    for line in lines:
        running.added(line)
    if without:
        found.remarks.append(f"the first {without:,} lines have no sums and cannot be checked by themselves")
    if without < len(lines):
        found.remarks.append(f"{len(lines) - without:,} lines fit; the last sum is {running.last}")
    return found.of("sums")


def check_studies(events: Sequence[Event]) -> Finding:
    """What runs began with: each says of its study what follows from it, and goes on with that of the run before."""
    found = Findings.none()
    told = [(n, event) for n, event in enumerate(events, 1) if event["event"] in ("study", MERGED)]
    for number, event in told:
        found.faults += [f"line {number}: {fault}" for fault in _unlike(event)]
    begun = [(number, event) for number, event in told if event["event"] == "study"]
    for (_, old), (number, new) in pairwise(begun):
        found.faults += [
            f"line {number}: another study: {one}" for one in incompatible_changes(old["meaning"], new["meaning"])
        ]
        if not old["images"]["keys"].items() <= new["images"]["keys"].items():
            found.faults.append(f"line {number}: other images than those of the run before")
    if not begun or events[0]["event"] not in ("study", "planned"):
        found.faults.append("line 1: a ledger begins with its study, and this one does not")
    found.remarks.append(f"{len(begun)} {'run' if len(begun) == 1 else 'runs'} of one study")
    return found.of("study")


def _unlike(event: Event) -> list[str]:
    """What a line says of its study that does not follow from the file in it."""
    try:
        study = Study.model_validate(event["file"])
        wanted: dict[str, Any] = study_record(study, event.get("profile", ""))
    except ValueError as error:
        return [f"the study in it cannot be read: {error}".replace("\n", " ")]
    if event["event"] == MERGED:
        return []
    said = {name: event[name] for name in SAID if name in event} | {"meaning": event["meaning"]}
    unlike = differences({name: wanted[name] for name in said}, said)
    return [
        f"what it says does not follow from the study file in it: {one}"
        for one in unlike
        if not one.endswith(NEW) and not one.startswith(UNLIKE)
    ]
