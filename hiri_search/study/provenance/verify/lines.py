"""Checks of ledger lines: unchanged since the manifest, and one study throughout."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from hiri_search.study.config.identity import canonical_form, incompatible_changes
from hiri_search.study.config.schema import StudyConfig
from hiri_search.study.errors import StudyError
from hiri_search.study.ledger.events import Event, FolderMerged, Planned, StudyStarted
from hiri_search.study.ledger.ledger import LedgerContent
from hiri_search.study.ledger.values import changed_inputs
from hiri_search.study.provenance.manifest import MANIFEST, check_unchanged
from hiri_search.study.provenance.record import Record
from hiri_search.study.provenance.verify.finding import Finding, Findings
from hiri_search.user_code import NotImportedError, UserCodeError, loaded_code


def check_sum(ledger: LedgerContent) -> Finding:
    """Check that the lines which the manifest covers have the SHA-256 that it names."""
    checked = Findings()
    try:
        check_unchanged(ledger)
    except StudyError as error:
        checked.faults.append(str(error))
    has_manifest = (ledger.folder / MANIFEST).is_file()
    remark = f"unchanged since {MANIFEST}" if has_manifest else f"not checked, because there is no {MANIFEST}"
    checked.remarks.append(f"{len(ledger.lines):,} lines, {remark}")
    return checked.finding("ledger")


def check_code(record: Record) -> Finding:
    """Check that the user's own code, where it is imported, is that of the study."""
    files = record.own.study.code.files
    try:
        loaded_code(files)
    except NotImportedError as error:
        return Finding("code", (), (f"{error}; give it with --import, if you trust it",))
    except UserCodeError as error:
        return Finding("code", (str(error),))
    return Finding("code", (), (f"{', '.join(files)}: as the study was run with",))


def check_studies(events: Sequence[Event]) -> Finding:
    """Check that every run continues the study and images of the one before. ValueError where a study is invalid."""
    checked = Findings()
    starts = [event for event in events if isinstance(event, StudyStarted)]
    for event in events:
        if isinstance(event, FolderMerged):
            StudyConfig.model_validate(event.file)
    forms = [canonical_form(StudyConfig.model_validate(start.file)) for start in starts]
    for run in range(1, len(forms)):
        changes = incompatible_changes(forms[:run], forms[run])
        checked.faults += [f"run {run + 1}: another study: {change}" for change in changes]
    for number, (before, after) in enumerate(pairwise(starts), 2):
        if not before.images.fingerprints.items() <= after.images.fingerprints.items():
            checked.faults.append(f"run {number}: other images than those of the previous run")
        if changed := changed_inputs(before.weights, after.weights):
            checked.faults.append(f"run {number}: {', '.join(changed)} is not that of the previous run")
    if not starts or not isinstance(events[0], StudyStarted | Planned):
        checked.faults.append("the ledger does not begin with its study")
    checked.remarks.append(f"{len(starts)} {'run' if len(starts) == 1 else 'runs'} of one study")
    return checked.finding("study")
