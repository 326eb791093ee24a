"""A results folder read back: every trial with the study that asked for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from hiri_search.study.config.networks import Candidate, StudyNetworks, resolve
from hiri_search.study.config.schema import Study
from hiri_search.study.ledger.events import MERGED, RUN_ENDED, Event
from hiri_search.study.ledger.ledger import study_event, trials
from hiri_search.study.ledger.trial import Trial
from hiri_search.training.job import Job


@dataclass(frozen=True)
class Source:
    """A study, and what it was run on."""

    study: Study
    images: Mapping[str, Any]
    code: str  # the digest of what ran last; `` where an earlier version wrote the ledger

    @cached_property
    def rows(self) -> Mapping[str, Candidate]:
        """Of an ablation, by name."""
        return {row.name: row for row in self.networks.rows}

    @cached_property
    def networks(self) -> StudyNetworks:
        return resolve(self.study)

    def job(self, asked: Mapping[str, Any]) -> Job:
        """The training of one of its trials."""
        return self.networks.job({**asked, "name": own_name(asked)})


@dataclass(frozen=True)
class Record:
    """All that a ledger holds."""

    folder: Path
    events: Sequence[Event]
    about: Event
    trials: Sequence[Trial]
    sources: Mapping[str, Source]  # by the folder that trials were merged from; the ledger's own is ``

    def source(self, asked: Mapping[str, Any]) -> Source:
        """The study that a trial, or a counted network, is of. StudyError where the ledger names none."""
        return self.sources[asked.get("merged_from", "")]

    @property
    def ended(self) -> bool:
        """Whether the last run came to its end, so that nothing is missing."""
        last = next(event["event"] for event in reversed(self.events) if event["event"] in ("study", RUN_ENDED))
        return str(last) == RUN_ENDED


def read_record(folder: Path, events: Sequence[Event]) -> Record:
    """StudyError, or another ValueError, where a study in it cannot be read, or a trial's line is missing."""
    about = study_event(events, folder)
    sources = {event["folder"]: source_of(event, event["runs"][-1]) for event in events if event["event"] == MERGED}
    return Record(folder, events, about, trials(events), {"": source_of(about, about)} | sources)


def source_of(about: Mapping[str, Any], run: Mapping[str, Any]) -> Source:
    """Of what a ledger says of a study and of a run."""
    return Source(Study.model_validate(about["file"]), about["images"], run.get("code", {}).get("digest", ""))


def own_name(asked: Mapping[str, Any]) -> str:
    """What the study that asked for a trial calls its network; a merge may have had to give it another name."""
    return str(asked.get("merged_name", asked["name"]))
