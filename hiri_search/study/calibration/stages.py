"""Stages of a calibration: one run after the other, the cheapest setting first and the reference seed by seed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from hiri_search.cost.flops import count
from hiri_search.study.config.networks import resolve
from hiri_search.study.config.schema import StudyConfig
from hiri_search.study.ledger.layout import LEDGER, REFERENCE
from hiri_search.study.ledger.ledger import last_start, read_events

_ALL_IMAGES = 10_000  # a guess of the images of a data set that a study uses whole; it decides only the order


@dataclass(frozen=True)
class CalibrationStage:
    """One run of a setting."""

    setting: str
    study: StudyConfig


def stages(studies: Mapping[str, StudyConfig], folder: Path) -> Iterator[CalibrationStage]:
    """Yield the runs of the settings, by name, so that what is cheap and tells much comes first.

    The reference grows by one seed at a time: after its first seed every setting can be judged, if roughly.
    """
    cheaper = [name for name in studies if name != REFERENCE]
    for name in sorted(cheaper, key=lambda name: training_work(studies[name])):
        yield CalibrationStage(name, studies[name])
    if (reference := studies.get(REFERENCE)) is not None:
        for seeds in range(max(1, _seeds_begun(folder / REFERENCE)), len(reference.first_seeds) + 1):
            yield CalibrationStage(REFERENCE, reference.model_copy(update={"seeds": reference.first_seeds[:seeds]}))


def training_work(study: StudyConfig) -> float:
    """Return the multiply-adds of one pass of every image that the trainings of an ablation see."""
    images, classes = study.data.train or _ALL_IMAGES, study.proxy.classes or study.counted.classes
    passes = [
        row.recipe.epochs * count(row.trained, row.trained_side, classes=classes).macs
        for row in resolve(study).trained_rows
        if row.trained
    ]
    return float(images * len(study.first_seeds) * sum(passes))


def _seeds_begun(folder: Path) -> int:
    """Return the number of seeds that the last run of a results folder had."""
    started = last_start(read_events(folder)) if (folder / LEDGER).is_file() else None
    return len(StudyConfig.model_validate(started.file).first_seeds) if started else 0
