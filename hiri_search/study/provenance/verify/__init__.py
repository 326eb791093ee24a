"""`verify`: every check of a results folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from hiri_search.study.ledger.ledger import read_events, read_lines
from hiri_search.study.provenance import manifest
from hiri_search.study.provenance.environment import code
from hiri_search.study.provenance.record import Record, read
from hiri_search.study.provenance.verify import curves, files, lines, networks, trials
from hiri_search.study.provenance.verify.finding import Finding
from hiri_search.system.files import Say

REST = "the rest cannot be checked before that is mended"


def verify(folder: Path, *, quick: bool = False, say: Say = lambda text: None) -> Iterator[Finding]:
    """One finding for each check, as they are made; changes nothing. StudyError where there is no ledger.

    With `quick` only a sample of networks is counted again, and checkpoints and pictures are not read.
    """
    yield lines.sums(read_lines(folder))
    try:
        events = read_events(folder)
        studies, record = lines.studies(events), read(folder, events)
    except ValueError as error:
        yield Finding("lines", (f"{error}; {REST}",))
        return
    except LookupError as error:
        yield Finding("lines", (f"the first line of a run lacks {error}; {REST}",))
        return
    yield studies
    yield from (_guarded(name, check, record) for name, check in _checks(quick=quick, say=say).items())
    yield Finding(manifest.MANIFEST, tuple(manifest.faults(folder)), ("follows from the ledger",))


def _checks(*, quick: bool, say: Say) -> dict[str, Callable[[Record], Finding]]:
    return {
        "networks": networks.specs,
        "costs": partial(networks.costs, quick=quick, say=say),
        "trials": trials.present,
        "trainings": partial(trials.trainings, code=code()["digest"]),
        "curves": curves.curves,
        "checkpoints": partial(files.checkpoints, quick=quick),
        "pictures": partial(files.pictures, quick=quick, say=say),
    }


def _guarded(name: str, check: Callable[[Record], Finding], record: Record) -> Finding:
    """A line that lacks what every such line has is a fault of the ledger."""
    try:
        return check(record)
    except (LookupError, TypeError) as error:
        return Finding(name, (f"a line lacks {error}, or has something else in its place",))
