"""Checks of training curves."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import fields

from hiri_search.study.ledger.events import EpochEnded, Event, TrialBegan, TrialEvent
from hiri_search.study.ledger.trial import REPRODUCED_COLUMNS, Trial, reproduced, training_digest
from hiri_search.study.provenance.manifest import ON_CPU
from hiri_search.study.provenance.record import Record
from hiri_search.study.provenance.verify.finding import Finding, Findings
from hiri_search.training.job import Epoch

SHARES = ("top1", "top5", "ema_top1", "ema_top5")  # percent of the validation images
_TOLERANCE = 1e-6  # of a share: they are computed in 32 bits


def check_curves(record: Record) -> Finding:
    """Check that curves have the length of their recipe, agree with the reported epochs, and hold possible values."""
    checked, events = Findings.none(), _by_trial(record.events)
    for trial in record.trials:
        checked.faults += [f"trial {trial.number}: {fault}" for fault in _faults(record, trial, events[trial.number])]
    epochs = sum(len(trial.curve) for trial in record.trials)
    checked.remarks.append(f"{epochs:,} epochs of {len(record.trials):,} trials")
    if taken_over := sum(":" in trial.source for trial in record.trials):
        checked.remarks.append(f"{taken_over:,} curves are from other folders, which are not read")
    return checked.of("curves")


def _by_trial(events: Sequence[Event]) -> dict[int, list[TrialEvent]]:
    by_trial: dict[int, list[TrialEvent]] = {}
    for event in events:
        if isinstance(event, TrialEvent):
            by_trial.setdefault(event.trial, []).append(event)
    return by_trial


def _faults(record: Record, trial: Trial, events: Sequence[TrialEvent]) -> Iterator[str]:
    source = record.source(trial.network)
    epochs = source.job(trial).recipe.epochs
    if trial.state == "finished" and len(trial.curve) != epochs:
        yield f"it has finished with {len(trial.curve)} epochs of {epochs}"
    if [epoch.epoch for epoch in trial.curve] != list(range(1, len(trial.curve) + 1)):
        yield f"its epochs are {', '.join(str(epoch.epoch) for epoch in trial.curve)}"
    for epoch in trial.curve:
        yield from _impossible(epoch, source.images.val)
    if trial.source:
        yield from _as_its_source(record, trial)
    elif trial.state in ("finished", "paused", "stopped"):
        yield from _unlike_reports(trial, events)


def _impossible(epoch: Epoch, val: int) -> Iterator[str]:
    for name in SHARES:
        share: float | None = getattr(epoch, name)
        if share is None:
            continue
        images = share / 100 * val
        if not -_TOLERANCE <= share <= 100 * (1 + _TOLERANCE):
            yield f"epoch {epoch.epoch}: {name} is {share}, which is no share of anything"
        elif abs(images - round(images)) > _TOLERANCE * val + _TOLERANCE:
            yield f"epoch {epoch.epoch}: {name} is {share}, which is no whole number of the {val:,} images"
    if epoch.top5 < epoch.top1:
        yield f"epoch {epoch.epoch}: top1 is {epoch.top1}, and top5 is less, {epoch.top5}"
    if not math.isfinite(epoch.loss):
        yield f"epoch {epoch.epoch}: loss is {epoch.loss}"


def _as_its_source(record: Record, trial: Trial) -> Iterator[str]:
    """Check that a curve that was taken over is that of its source."""
    of_the_same = [other for other in record.trials if f"trial {other.number}" == trial.source]
    if ":" in trial.source:
        return
    if not of_the_same:
        yield f"its curve is from {trial.source}, which is not there"
    for other in of_the_same:
        if training_digest(other) != training_digest(trial):
            yield f"its curve is from {trial.source}, which is another training"
        if reproduced(other.curve) != reproduced(trial.curve):
            yield f"its curve is from {trial.source}, and is another"


def _unlike_reports(trial: Trial, events: Sequence[TrialEvent]) -> Iterator[str]:
    """Yield where the final curve differs from the epochs reported during the training.

    A trial on a GPU that lost its checkpoint may reach other digits when it is trained again.
    """
    begun = sum(isinstance(event, TrialBegan) for event in events)
    if begun > 1 and not trial.device.startswith(ON_CPU):
        return
    reports = {event.result.epoch: event.result for event in events if isinstance(event, EpochEnded)}
    names = REPRODUCED_COLUMNS if begun > 1 else tuple(each.name for each in fields(Epoch))
    for epoch in trial.curve:
        report = reports.get(epoch.epoch)
        if report is None:
            yield f"no event reports its epoch {epoch.epoch}, though its curve has it"
            continue
        for name in names:
            if (final := getattr(epoch, name)) != (reported := getattr(report, name)):
                yield f"epoch {epoch.epoch}: {name} is {final} in its curve, and was reported as {reported}"
