"""Results of earlier identical trainings, here or in other results folders."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hiri_search.study.ledger.events import StudyStarted
from hiri_search.study.ledger.ledger import of_kind, read_events, trials
from hiri_search.study.ledger.trial import Trial, training_digest
from hiri_search.study.ledger.values import changed_inputs
from hiri_search.training.job import Epoch


@dataclass(frozen=True)
class CachedResult:
    """The curve of a finished training, and the trial that trained it."""

    curve: Sequence[Epoch]
    source: str


def finished(trials: Iterable[Trial]) -> dict[str, CachedResult]:
    """Return the results of the finished trials by training digest."""
    ended = (trial for trial in trials if trial.state == "finished")
    return {training_digest(t): CachedResult(t.curve, t.source or f"trial {t.number}") for t in ended}


def from_other_folders(
    folders: Iterable[str], images: Mapping[str, str], weights: Mapping[str, str]
) -> dict[str, CachedResult]:
    """Return results in other results folders on the same images (`images`: fingerprint by side), by training digest.

    A folder has none where a file of initial weights (`weights`: fingerprint by path) was another one. StudyError where
    it holds no ledger.
    """
    return {digest: result for folder in folders for digest, result in _results_in(Path(folder), images, weights)}


def _results_in(
    folder: Path, images: Mapping[str, str], weights: Mapping[str, str]
) -> Iterator[tuple[str, CachedResult]]:
    events = read_events(folder)
    if any(changed_inputs(started.weights, weights) for started in of_kind(events, StudyStarted)):
        return
    keys = next((started.images.fingerprints for started in of_kind(events, StudyStarted)), {})
    same = {side for side, key in images.items() if keys.get(side) == key}
    on_same_images = [trial for trial in trials(events) if str(trial.network.trained.side) in same]
    for digest, result in finished(on_same_images).items():
        source = result.source if ":" in result.source else f"{folder}: {result.source}"
        yield digest, CachedResult(result.curve, source)
