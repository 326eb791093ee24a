"""Tasks and epochs as the flat dictionaries of Ray Tune: the config of a trial, and one report for each epoch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from hiri_search.study.dispatch.task import StudyFiles, TrialTask
from hiri_search.study.ledger.trial import ZERO_COST_PREFIX, zero_cost_columns
from hiri_search.training.job import DataSource, Epoch, Job
from hiri_search.training.recipe import Recipe
from hiri_search.training.score import TEST

ITERATION = "training_iteration"  # Tune's name for the number of an epoch: its schedulers and loggers read it
RECIPE_FIELDS = tuple(field.name for field in fields(Recipe))
_ERRORS = "standard_errors"
_EPOCH = [field.name for field in fields(Epoch) if field.name not in ("scores", "test_scores", _ERRORS)]


def config_of(task: TrialTask) -> dict[str, Any]:
    """Return a task as a flat config of plain values; `task_of` reads it."""
    job = task.job
    return {
        "trial": task.trial,
        "spec": job.spec,
        "side": job.side,
        "classes": job.classes,
        "seed": job.seed,
        "width_divisor": job.width_divisor,
        **{name: getattr(job.recipe, name) for name in RECIPE_FIELDS},
        "until": task.until,
        "epochs_done": task.epochs_done,
        "metrics": ",".join(f"{name}={function}" for name, function in job.metrics),
        "zero_cost": ",".join(task.zero_cost),
        "on_epoch": ",".join(task.on_epoch),
        "alone": task.alone,
        "training": task.training,
        **zero_cost_columns(task.scores),
    }


def task_of(config: Mapping[str, Any], data: DataSource, files: StudyFiles) -> TrialTask:
    """Return the task of a config."""
    recipe = Recipe(**{name: config[name] for name in RECIPE_FIELDS})
    metrics = tuple((name, text) for name, _, text in (each.partition("=") for each in _listed(config["metrics"])))
    return TrialTask(
        config["trial"],
        Job(
            config["spec"],
            config["side"],
            config["classes"],
            config["seed"],
            recipe,
            data,
            code=files.code.digest,
            metrics=metrics,
            width_divisor=config["width_divisor"],
        ),
        files,
        config["training"],
        epochs_done=config["epochs_done"],
        until=config["until"],
        zero_cost=_listed(config["zero_cost"]),
        on_epoch=_listed(config["on_epoch"]),
        scores=scores_of(config),
        alone=config["alone"],
    )


def _listed(text: str) -> tuple[str, ...]:
    return tuple(filter(None, text.split(",")))


def report_of(epoch: Epoch, zero_cost: Mapping[str, float | None], *, test: bool = False) -> dict[str, Any]:
    """Return the report of an epoch; all reports of a trial have the same keys.

    `test` says that there are test images: their scores are None in all epochs but the last.
    """
    on_test = {TEST + name: epoch.test_scores.get(name) for name in epoch.scores if test}
    names = {"scores": ",".join(epoch.scores), _ERRORS: json.dumps(epoch.standard_errors)}
    row = replace(epoch, standard_errors={}).row()
    return {ITERATION: epoch.epoch, **row, **on_test, **names, **zero_cost_columns(zero_cost)}


def epoch_of(report: Mapping[str, Any]) -> Epoch:
    """Return the epoch of a report, to which Tune has added keys of its own."""
    names = report["scores"].split(",")
    test_scores = {name: value for name in names if (value := report.get(TEST + name)) is not None}
    scores = {name: report[name] for name in names}
    errors = json.loads(report[_ERRORS])
    plain = {name: report[name] for name in _EPOCH}
    return Epoch(scores=scores, test_scores=test_scores, standard_errors=errors, **plain)


def scores_of(values: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the zero-cost scores of a report or a config."""
    prefix = ZERO_COST_PREFIX
    return {name.removeprefix(prefix): score for name, score in values.items() if name.startswith(prefix)}
