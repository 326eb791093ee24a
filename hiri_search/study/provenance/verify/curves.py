"""Checks of training curves."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import fields

from hiri_search.study.config.schema import StudyConfig
from hiri_search.study.ledger.events import EpochEnded, TrialBegan, TrialEvent
from hiri_search.study.ledger.ledger import of_kind
from hiri_search.study.ledger.trial import REPRODUCED, Trial, reproduced, training_digest
from hiri_search.study.ledger.values import ImageSet
from hiri_search.study.provenance.manifest import ON_CPU
from hiri_search.study.provenance.record import Record
from hiri_search.study.provenance.verify.finding import Finding, Findings
from hiri_search.training.job import Epoch
from hiri_search.training.score import Score, score_columns

_TOLERANCE = 1e-6  # relative error of a score, which is computed in 32 bits


def check_curves(record: Record) -> Finding:
    """Check that curves have the length of their recipe, agree with the reported epochs, and hold possible values."""
    checked, events = Findings(), defaultdict[int, list[TrialEvent]](list)
    for event in of_kind(record.events, TrialEvent):
        events[event.trial].append(event)
    for trial in record.trials:
        checked.faults += [f"trial {trial.number}: {fault}" for fault in _faults(record, trial, events[trial.number])]
    epochs = sum(len(trial.curve) for trial in record.trials)
    checked.remarks.append(f"{epochs:,} epochs of {len(record.trials):,} trials")
    if copied := sum(":" in trial.source for trial in record.trials):
        checked.remarks.append(f"{copied:,} curves are from other folders, which are not read")
    return checked.finding("curves")


def _faults(record: Record, trial: Trial, events: Sequence[TrialEvent]) -> Iterator[str]:
    source = record.source(trial.network)
    epochs = source.job(trial).recipe.epochs
    if trial.state == "finished" and len(trial.curve) != epochs:
        yield f"it has finished with {len(trial.curve)} epochs of {epochs}"
    if [epoch.epoch for epoch in trial.curve] != list(range(1, len(trial.curve) + 1)):
        yield f"its epochs are numbered {', '.join(str(epoch.epoch) for epoch in trial.curve)}"
    measured = [epoch.epoch for epoch in trial.curve if epoch.test_scores]
    if measured != ([epochs] if source.images.test and trial.state == "finished" else []):
        yield f"it was measured on the test images after these epochs: {measured}, and not after its last one alone"
    for epoch in trial.curve:
        yield from _impossible(epoch, source.study, source.images)
    if trial.source:
        yield from _unlike_source(record, trial)
    elif trial.state in ("finished", "paused", "stopped"):
        yield from _unlike_reports(trial, events)


def _impossible(epoch: Epoch, study: StudyConfig, images: ImageSet) -> Iterator[str]:
    """Yield the values of an epoch that no training with these images can have."""
    for score in score_columns(study.scores, test=images.test > 0):
        value = epoch.score(score.name)
        if value is not None and (fault := _impossible_score(score, value, getattr(images, score.split))):
            yield f"epoch {epoch.epoch}: {score.name} is {value}, {fault}"
    for low, high in study.learning_task.ordered:
        if (least := epoch.scores.get(low, -math.inf)) > (most := epoch.scores.get(high, math.inf)):
            yield f"epoch {epoch.epoch}: {low} is {least}, more than {high}, which is {most}"
    if not math.isfinite(epoch.loss):
        yield f"epoch {epoch.epoch}: loss is {epoch.loss}"


def _impossible_score(score: Score, value: float, images: int) -> str:
    """Return what is wrong with a score of so many images; empty where nothing is."""
    if not score.low - _TOLERANCE <= value <= score.high * (1 + _TOLERANCE):
        return f"which is not within {score.low:g} to {score.high:g}"
    count = value / 100 * images
    if score.of_images and abs(count - round(count)) > _TOLERANCE * images + _TOLERANCE:
        return f"which is no whole number of the {images:,} images"
    return ""


def _unlike_source(record: Record, trial: Trial) -> Iterator[str]:
    """Yield the differences between a trial and the trial that its curve was copied from."""
    if ":" in trial.source:  # a trial of another folder
        return
    originals = [candidate for candidate in record.trials if f"trial {candidate.number}" == trial.source]
    if not originals:
        yield f"its curve is from {trial.source}, which does not exist"
    for original in originals:
        if training_digest(original) != training_digest(trial):
            yield f"its curve is from {trial.source}, which is another training"
        if reproduced(original.curve) != reproduced(trial.curve):
            yield f"its curve is from {trial.source}, and differs from the curve of that trial"


def _unlike_reports(trial: Trial, events: Sequence[TrialEvent]) -> Iterator[str]:
    """Yield the differences between the final curve and the epochs reported during the training.

    A trial on a GPU that lost its checkpoint may reach other digits when it is trained again.
    """
    begun = sum(isinstance(event, TrialBegan) for event in events)
    if begun > 1 and not trial.device.startswith(ON_CPU):
        return
    reports = {event.result.epoch: event.result for event in events if isinstance(event, EpochEnded)}
    names = REPRODUCED if begun > 1 else tuple(field.name for field in fields(Epoch))
    for epoch in trial.curve:
        report = reports.get(epoch.epoch)
        if report is None:
            yield f"no event reports its epoch {epoch.epoch}, although its curve has it"
            continue
        for name in names:
            if (final := getattr(epoch, name)) != (reported := getattr(report, name)):
                yield f"epoch {epoch.epoch}: {name} is {final} in its curve, and was reported as {reported}"
