"""`verify`: every check of a results folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from hiri_search.study.ledger.ledger import read_events, read_lines
from hiri_search.study.provenance import manifest
from hiri_search.study.provenance.environment import code
from hiri_search.study.provenance.record import Record, read_record
from hiri_search.study.provenance.verify import curves, files, lines, networks, trials
from hiri_search.study.provenance.verify.finding import Finding
from hiri_search.system.files import Say

REST = "the rest cannot be checked before that is mended"


def verify(folder: Path, *, quick: bool = False, say: Say = lambda text: None) -> Iterator[Finding]:
    """One finding for each check, as they are made; changes nothing. StudyError where there is no ledger.

    With `quick` only a sample of networks is counted again, and checkpoints and images are not read.
    """
    yield lines.check_sums(read_lines(folder))
    try:
        events = read_events(folder)
        studies, record = lines.check_studies(events), read_record(folder, events)
    except ValueError as error:
        yield Finding("lines", (f"{error}; {REST}",))
        return
    except LookupError as error:
        yield Finding("lines", (f"the first line of a run lacks {error}; {REST}",))
        return
    yield studies
    yield from (_guarded(name, check, record) for name, check in _checks(quick=quick, say=say).items())
    yield Finding(manifest.MANIFEST, tuple(manifest.manifest_faults(folder)), ("follows from the ledger",))


def _checks(*, quick: bool, say: Say) -> dict[str, Callable[[Record], Finding]]:
    return {
        "networks": networks.check_specs,
        "costs": partial(networks.check_costs, quick=quick, say=say),
        "trials": trials.check_present,
        "trainings": partial(trials.check_trainings, code=code()["digest"]),
        "curves": curves.check_curves,
        "checkpoints": partial(files.check_checkpoints, quick=quick),
        "images": partial(files.check_images, quick=quick, say=say),
    }


def _guarded(name: str, check: Callable[[Record], Finding], record: Record) -> Finding:
    """A line that lacks what every such line has is a fault of the ledger."""
    try:
        return check(record)
    except (LookupError, TypeError) as error:
        return Finding(name, (f"a line lacks {error}, or has something else in its place",))
