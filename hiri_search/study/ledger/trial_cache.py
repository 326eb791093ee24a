"""Results of earlier identical trainings, here or in other results folders."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hiri_search.study.ledger.ledger import read_events, trials
from hiri_search.study.ledger.trial import Trial, training_digest


@dataclass(frozen=True)
class CachedResult:
    """What a training came to, and where that is written."""

    curve: list[dict[str, Any]]
    source: str


def finished(trials: Iterable[Trial]) -> dict[str, CachedResult]:
    """What the finished ones of this study came to."""
    return {
        training_digest(t): CachedResult(t.curve, t.source or f"trial {t.number}")
        for t in trials
        if t.state == "finished"
    }


def from_other_folders(folders: Iterable[str], images: Mapping[str, str]) -> dict[str, CachedResult]:
    """What trials of other results folders came to, on the same images: their names by side.

    StudyError where a folder holds no ledger.
    """
    return {name: known for folder in folders for name, known in _in(Path(folder), images)}


def _in(folder: Path, images: Mapping[str, str]) -> Iterator[tuple[str, CachedResult]]:
    events = read_events(folder)
    theirs: Mapping[str, str] = next((event["images"]["keys"] for event in events if event["event"] == "study"), {})
    same = {side for side, name in images.items() if theirs.get(side) == name}
    there = [t for t in trials(events) if str(t.asked.get("trained_side")) in same and "checkpoint" in t.asked]
    for name, known in finished(there).items():
        yield name, CachedResult(known.curve, known.source if ":" in known.source else f"{folder}: {known.source}")
