"""`verify`: every check of a results folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

from hiri_search.study.ledger.ledger import LedgerContent, UnreadableLedger, read_ledger
from hiri_search.study.provenance import manifest
from hiri_search.study.provenance.environment import code
from hiri_search.study.provenance.record import Record, read_record
from hiri_search.study.provenance.verify import curves, files, lines, networks, trials
from hiri_search.study.provenance.verify.finding import Finding
from hiri_search.system.files import Say

REPAIR_FIRST = "repair this first; the other checks need it"


def verify(
    folder: Path,
    *,
    quick: bool = False,
    say: Say = lambda text: None,
    more: Callable[[LedgerContent], Iterable[Finding]] = lambda ledger: (),
) -> Iterator[Finding]:
    """Yield one finding for each check; read-only. StudyError where there is no ledger.

    With `quick`, only a sample of networks is counted again, and checkpoints and images are not read. `more` adds
    checks of the same ledger.
    """
    try:
        ledger = read_ledger(folder)
    except UnreadableLedger as error:
        yield Finding("ledger", (f"{error}; {REPAIR_FIRST}",))
        return
    yield lines.check_sum(ledger)
    try:
        studies, record = lines.check_studies(ledger.events), read_record(ledger)
    except ValueError as error:
        yield Finding("study", (f"{error}; {REPAIR_FIRST}".replace("\n", " "),))
        return
    yield studies
    if record.own.study.imports:
        yield lines.check_code(record)
    yield from (_guarded(name, check, record) for name, check in _checks(record, quick=quick, say=say).items())
    yield Finding(manifest.MANIFEST, tuple(manifest.manifest_faults(ledger)), ("follows from the ledger",))
    yield from more(ledger)


def _checks(record: Record, *, quick: bool, say: Say) -> dict[str, Callable[[Record], Finding]]:
    added = {"added seeds": trials.check_added} if record.own.study.auto_seeds else {}
    return {
        "networks": networks.check_specs,
        "costs": partial(networks.check_costs, quick=quick, say=say),
        "trials": trials.check_present,
        **added,
        "trainings": partial(trials.check_trainings, code_digest=code().digest),
        "curves": curves.check_curves,
        "checkpoints": partial(files.check_checkpoints, quick=quick),
        "images": partial(files.check_images, quick=quick, say=say),
    }


def _guarded(name: str, check: Callable[[Record], Finding], record: Record) -> Finding:
    """Report an event that refers to something missing as a fault of the ledger."""
    try:
        return check(record)
    except LookupError as error:
        return Finding(name, (f"an event refers to {error}, which the ledger does not have",))
