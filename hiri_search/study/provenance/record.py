"""A results folder read back: every trial with the study that asked for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from hiri_search.study.config.networks import Candidate, StudyNetworks, resolve
from hiri_search.study.config.schema import StudyConfig
from hiri_search.study.ledger.events import AnyEvent, FolderMerged, StudyStarted
from hiri_search.study.ledger.ledger import LedgerContent, end_of_run, of_kind, study_event, trials
from hiri_search.study.ledger.trial import Trial
from hiri_search.study.ledger.values import ImageSet, JsonObject, NetworkFacts
from hiri_search.training.job import Job


@dataclass(frozen=True)
class Source:
    """A study, and the images and code it was run with."""

    study: StudyConfig
    images: ImageSet
    code_digest: str  # of the last run
    earlier: tuple[StudyConfig, ...] = ()  # studies of earlier runs, with rows that this one has no more

    @cached_property
    def networks(self) -> StudyNetworks:
        return resolve(self.study)

    @cached_property
    def row_by_name(self) -> Mapping[str, Candidate]:
        """The rows of an ablation by name, those included that only earlier runs had."""
        networks = (*map(resolve, self.earlier), self.networks)
        return {row.name: row for each in networks for row in each.rows}

    def job(self, trial: Trial) -> Job:
        """Return the training of one of its trials."""
        asked = trial.asked
        return self.networks.job(asked.network, asked.seed, epochs=asked.confirm_epochs)


@dataclass(frozen=True)
class Record:
    """The content of a ledger."""

    folder: Path
    events: Sequence[AnyEvent]
    started: StudyStarted  # the last run
    trials: Sequence[Trial]
    source_by_folder: Mapping[str, Source]  # by the folder that trials were merged from; empty: the folder itself

    @property
    def own(self) -> Source:
        """The study of the folder itself."""
        return self.source_by_folder[""]

    def source(self, network: NetworkFacts) -> Source:
        """Return the study that a network comes from. LookupError where the ledger has no such study."""
        return self.source_by_folder[network.merged_from]

    @property
    def ended(self) -> bool:
        """True if the last run reached its end, so that no trial is missing."""
        return end_of_run(self.events) is not None


def read_record(ledger: LedgerContent) -> Record:
    """Read a ledger. ValueError where a study in it is invalid, or an event of a trial is missing."""
    events = ledger.events
    started = study_event(events, ledger.folder)
    merged = {e.folder: _source(e.file, e.images, e.code_digest) for e in of_kind(events, FolderMerged)}
    own = _source(started.file, started.images, started.code.digest)
    own = replace(own, earlier=tuple(_earlier(events, own.study)))
    return Record(ledger.folder, events, started, trials(events), {"": own} | merged)


def _earlier(events: Sequence[AnyEvent], last: StudyConfig) -> Iterator[StudyConfig]:
    """Yield the studies of earlier runs that have rows which the last one lacks, oldest first."""
    rows = set(last.nets or ())
    for started in of_kind(events, StudyStarted):
        study = StudyConfig.model_validate(started.file)
        if not set(study.nets or ()) <= rows:
            yield study


def _source(file: JsonObject, images: ImageSet, code_digest: str) -> Source:
    return Source(StudyConfig.model_validate(file), images, code_digest)
