"""Checks of training curves."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hiri_search.study.ledger.events import Event
from hiri_search.study.ledger.trial import Trial, reproduced, training_digest
from hiri_search.study.provenance.manifest import ON_CPU
from hiri_search.study.provenance.record import Record
from hiri_search.study.provenance.verify.finding import Finding, Findings

Curve = Sequence[Mapping[str, Any]]
SHARES = ("top1", "top5", "ema_top1", "ema_top5")  # percent of the validation images
_TOLERANCE = 1e-6  # of a share: they are computed in 32 bits


def check_curves(record: Record) -> Finding:
    """Each is as long as its recipe, tells what its epochs told, and shares of the images that there are."""
    checked, told = Findings.none(), _by_trial(record.events)
    for trial in record.trials:
        checked.faults += [f"trial {trial.number}: {fault}" for fault in _faults(record, trial, told[trial.number])]
    epochs = sum(len(trial.curve) for trial in record.trials)
    checked.remarks.append(f"{epochs:,} epochs of {len(record.trials):,} trials")
    if elsewhere := sum(":" in trial.source for trial in record.trials):
        checked.remarks.append(f"{elsewhere:,} curves are from other folders, which are not looked at")
    return checked.of("curves")


def _by_trial(events: Sequence[Event]) -> dict[int, list[Event]]:
    told: dict[int, list[Event]] = {}
    for event in events:
        if "trial" in event:
            told.setdefault(event["trial"], []).append(event)
    return told


def _faults(record: Record, trial: Trial, told: Sequence[Event]) -> Iterator[str]:
    source = record.source(trial.asked)
    epochs = source.job(trial.asked).recipe.epochs
    if trial.state == "finished" and len(trial.curve) != epochs:
        yield f"it has finished with {len(trial.curve)} epochs of {epochs}"
    if [epoch["epoch"] for epoch in trial.curve] != list(range(1, len(trial.curve) + 1)):
        yield f"its epochs are {', '.join(str(epoch['epoch']) for epoch in trial.curve)}"
    for epoch in trial.curve:
        yield from _impossible(epoch, source.images["val"])
    if trial.source:
        yield from _as_its_source(record, trial)
    elif trial.state in ("finished", "paused", "stopped"):
        yield from _told_otherwise(trial, told)


def _impossible(epoch: Mapping[str, Any], val: int) -> Iterator[str]:
    for name in SHARES:
        share = epoch.get(name)
        if share is None:
            continue
        images = share / 100 * val
        if not -_TOLERANCE <= share <= 100 * (1 + _TOLERANCE):
            yield f"epoch {epoch['epoch']}: {name} is {share}, which is no share of anything"
        elif abs(images - round(images)) > _TOLERANCE * val + _TOLERANCE:
            yield f"epoch {epoch['epoch']}: {name} is {share}, which is no whole number of the {val:,} images"
    if epoch["top5"] < epoch["top1"]:
        yield f"epoch {epoch['epoch']}: top1 is {epoch['top1']}, and top5 is less, {epoch['top5']}"
    if not math.isfinite(epoch["loss"]):
        yield f"epoch {epoch['epoch']}: loss is {epoch['loss']}"


def _as_its_source(record: Record, trial: Trial) -> Iterator[str]:
    """What was not trained has the curve of one that was."""
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


def _told_otherwise(trial: Trial, events: Sequence[Event]) -> Iterator[str]:
    """Where the curve at the end is not what was told epoch by epoch.

    A trial on a GPU that lost its checkpoint may have come to other digits at the second time.
    """
    kinds = Counter(event["event"] for event in events)
    if kinds["began"] > 1 and not trial.device.startswith(ON_CPU):
        return
    told = {event["epoch"]: event for event in events if event["event"] == "epoch"}
    for epoch, then in ((epoch, told.get(epoch["epoch"])) for epoch in trial.curve):
        if then is None:
            yield f"no line tells of its epoch {epoch['epoch']}, though it is in its curve"
            continue
        names = reproduced([epoch])[0] if kinds["began"] > 1 else epoch
        for name in names:
            if epoch[name] != then.get(name):
                yield f"epoch {epoch['epoch']}: {name} is {epoch[name]} at its end, and was told as {then.get(name)}"
