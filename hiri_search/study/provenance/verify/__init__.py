"""`verify`: every check of a results folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from hiri_search.study.ledger.ledger import read_events
from hiri_search.study.provenance import manifest
from hiri_search.study.provenance.environment import code
from hiri_search.study.provenance.record import Record, read_record
from hiri_search.study.provenance.verify import curves, files, lines, networks, trials
from hiri_search.study.provenance.verify.finding import Finding
from hiri_search.system.files import Say

REST = "mend this first; the rest cannot be checked before"


def verify(folder: Path, *, quick: bool = False, say: Say = lambda text: None) -> Iterator[Finding]:
    """Yield one finding for each check; read-only. StudyError where there is no ledger.

    With `quick` only a sample of networks is counted again, and checkpoints and images are not read.
    """
    yield lines.check_sum(folder)
    try:
        events = read_events(folder)
        studies, record = lines.check_studies(events), read_record(folder, events)
    except ValueError as error:
        yield Finding("lines", (f"{error}; {REST}",))
        return
    yield studies
    yield from (_guarded(name, check, record) for name, check in _checks(quick=quick, say=say).items())
    yield Finding(manifest.MANIFEST, tuple(manifest.manifest_faults(folder)), ("follows from the ledger",))


def _checks(*, quick: bool, say: Say) -> dict[str, Callable[[Record], Finding]]:
    return {
        "networks": networks.check_specs,
        "costs": partial(networks.check_costs, quick=quick, say=say),
        "trials": trials.check_present,
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
