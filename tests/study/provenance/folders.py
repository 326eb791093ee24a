"""Small results folders of real runs, and changes of their ledgers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image

from hiri_search.api.folders import write_report
from hiri_search.study.config.read import read_study
from hiri_search.study.dispatch.serial_dispatcher import run_serially
from hiri_search.study.ledger.events import AnyEvent, Event, TrialEvent
from hiri_search.study.ledger.json_lines import write_line
from hiri_search.study.ledger.layout import LEDGER
from hiri_search.study.ledger.ledger import of_kind, read_ledger
from hiri_search.study.provenance.manifest import write_manifest
from hiri_search.study.run import run
from tests.study.search.searches import ROWS, Quiet

DRAWN = "{source: drawn, train: 32, val: 16}"
STUDY = f"""
title: A title{ROWS}proxy: {{width: 4, side: 32}}
data: {DRAWN}
recipe: {{epochs: 2, batch: 8, ema: 0.0}}
seeds: 2
"""
Events = Sequence[AnyEvent]
Change = Callable[[Events], Iterable[Event]]
Kind = TypeVar("Kind", bound=Event)


def photos(folder: Path) -> Path:
    """Write images of noise, of two classes."""
    for split, count in (("train", 8), ("val", 4)):
        for name in "ab":
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                Image.effect_noise((40, 40), 50).save(folder / split / name / f"{number}.png")
    return folder


def trained(folder: Path, text: str = STUDY, *, sets: tuple[str, ...] = (), report: bool = False) -> Path:
    """Run a study in this process; return its results folder."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder.with_suffix(".yaml")
    file.write_text(text)
    study = read_study(file, sets=sets)
    run(study, folder, run_serially, Quiet(), profile="none", command=("hiri-search", "run", str(file)))
    if report:
        write_report(folder, lambda text: None)
    return folder


def rewrite(folder: Path, change: Change, *, forged: bool = False) -> None:
    """Change the events of a ledger; `forged` also writes the manifest anew, so that its SHA-256 is right again."""
    ledger = read_ledger(folder)
    lines = (ledger.lines[0], *map(write_line, change(ledger.events)))
    (folder / LEDGER).write_bytes(b"".join(line + b"\n" for line in lines))
    if forged:
        write_manifest(read_ledger(folder))


def first(events: Events, kind: type[Kind], trial: int | None = None) -> Kind:
    """Return the first event of a kind, of a trial."""
    return next(event for event in of_kind(events, kind) if trial is None or trial_of(event) == trial)


def trial_of(event: Event) -> int | None:
    """Return the trial of an event."""
    return event.trial if isinstance(event, TrialEvent) else None


def replaced(events: Iterable[Event], old: Event, new: Event) -> list[Event]:
    """Return events with one of them replaced."""
    return [new if event is old else event for event in events]


def changed(events: Events, kind: type[Event], trial: int | None = None, **changes: Any) -> list[Event]:
    """Return events with other values in the first event of a kind, of a trial."""
    old = first(events, kind, trial)
    return replaced(events, old, replace(old, **changes))
