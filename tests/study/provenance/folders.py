"""Small results folders of real runs, and hands that change them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from hiri_search.study.ledger.checksums import RunningChecksum
from PIL import Image

from hiri_search.cli.results import write_report
from hiri_search.study.config.read import read_study
from hiri_search.study.dispatch.serial_executor import run_serially
from hiri_search.study.ledger.events import Event
from hiri_search.study.ledger.layout import LEDGER
from hiri_search.study.ledger.ledger import as_line, read_events, read_lines
from hiri_search.study.run import run
from tests.study.search.searches import ROWS, Quiet

DRAWN = "{source: drawn, train: 32, val: 16}"
STUDY = f"""
title: A title{ROWS}proxy: {{width: 4, side: 32}}
data: {DRAWN}
recipe: {{epochs: 2, batch: 8, ema: 0.0}}
seeds: 2
"""
Change = Callable[[list[Event]], Iterable[Event]]


def photos(folder: Path) -> Path:
    """Images of noise, of two classes."""
    for split, count in (("train", 8), ("val", 4)):
        for name in "ab":
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                Image.effect_noise((40, 40), 50).save(folder / split / name / f"{number}.png")
    return folder


def trained(folder: Path, text: str = STUDY, *, sets: tuple[str, ...] = (), report: bool = False) -> Path:
    """The results of a real run in this process."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder.with_suffix(".yaml")
    file.write_text(text)
    study = read_study(file, sets=sets)
    run(study, folder, run_serially, Quiet(), profile="none", command=("hiri-search", "run", str(file)))
    if report:
        write_report(folder, lambda text: None)
    return folder


def rewrite(folder: Path, change: Change, *, forged: bool = False) -> None:
    """Change the events of a ledger: with the sums as they were, or made anew by a forger."""
    path = folder / LEDGER
    if forged:
        events = read_events(folder, timed=True)
        path.write_bytes(summed(change(events)))
        return
    events = [json.loads(line) for line in read_lines(folder)]
    path.write_bytes(b"".join(as_line(event) + b"\n" for event in change(events)))


def summed(events: Iterable[Event]) -> bytes:
    """As a ledger has them."""
    sums, lines = RunningChecksum(), []
    for event in events:
        lines.append(sums.signed(as_line(event)))
        sums.added(lines[-1])
    return b"".join(line + b"\n" for line in lines)


def first(events: list[Event], kind: str, trial: int | None = None) -> dict[str, Any]:
    """The first event of a kind, of a trial."""
    return next(e for e in events if e["event"] == kind and (trial is None or e["trial"] == trial))
