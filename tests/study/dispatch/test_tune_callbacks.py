"""Tune's own loggers, which `RAY_TUNE_CALLBACKS` adds to a study: their files hold every trial and every epoch once."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from hiri_search.study.config.read import read_study
from hiri_search.study.dispatch.ray_dispatcher import run_on_ray
from hiri_search.study.dispatch.resources import TrialResources
from hiri_search.study.dispatch.tune_dispatcher import CALLBACKS, TUNE_FOLDER
from hiri_search.study.ledger.ledger import read_events, trials
from hiri_search.study.ledger.trial import Trial
from hiri_search.study.run import run
from hiri_search.system.shutdown import Shutdown
from hiri_search.training.recipe import Recipe
from tests.study.dispatch import fake_work
from tests.study.dispatch.event_files import hparams, scalars
from tests.study.search.searches import Quiet

pytestmark = pytest.mark.waits
LOGGERS = ("CSVLoggerCallback", "JsonLoggerCallback", "TBXLoggerCallback")
SMALL = """
seeds: 1
counted: {side: 64, classes: 10}
proxy: {width: 4, side: 32, classes: 4}
data: {source: drawn, train: 32, val: 16}
"""
ABLATION = f"""
nets:
  small: hr(32 e=4) -> hr(64 e=4)
  other: hr(32 e=4) -> cffn(64 e=4)
recipe: {{epochs: 2, batch: 16, warmup_epochs: 0, lr: 0.004}}
{SMALL}"""
HALVING = f"""
space: (hr | cffn)(32 e=2..4)*1..2 -> hr(64 e=4|6)
search: {{sampler: random, networks: 3, halving: {{epochs: [1], keep: 0.4}}, zero_cost: [synflow]}}
recipe: {{epochs: 3, batch: 16, warmup_epochs: 0, ema: 0.0}}
{SMALL}"""


def _run(folder: Path, study: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, list[Trial]]:
    """Run a study with Tune's loggers; return the folder of what they wrote, and the trials."""
    monkeypatch.setenv("PYTHONPATH", str(Path(fake_work.__file__).parents[3]))
    monkeypatch.setenv(CALLBACKS, ",".join(f"ray.tune.logger.{name}" for name in LOGGERS))
    (folder / "study.yaml").write_text(study)
    dispatch = partial(
        run_on_ray,
        resources=TrialResources(2),
        log=folder / "ray.log",
        shutdown=Shutdown(),
        trial_function=fake_work.ends_a_second_later,
    )
    run(read_study(folder / "study.yaml"), folder / "results", dispatch, Quiet(), profile="none")
    (session,) = (folder / "results" / TUNE_FOLDER).iterdir()
    return session, trials(read_events(folder / "results"))


def _check_files(session: Path, all_trials: list[Trial]) -> None:
    """Check that each trial has one folder, in which each file has its epochs once and in order."""
    names = [f"trial_{trial.number:04d}" for trial in all_trials]
    assert sorted(path.name for path in session.iterdir() if path.is_dir()) == names
    for trial, name in zip(all_trials, names, strict=True):
        with (session / name / "progress.csv").open() as file:
            _check_rows(list(csv.DictReader(file)), trial)
        results = [json.loads(line) for line in (session / name / "result.json").read_text().splitlines()]
        for result, epoch in zip(results, trial.curve, strict=True):
            assert {key: result[key] for key in epoch.row()} == epoch.row()
        _check_config(json.loads((session / name / "params.json").read_text()), trial)
        _check_run(session / name, trial)


def _check_rows(rows: list[dict[str, str]], trial: Trial) -> None:
    shown = [{key: "" if value is None else str(value) for key, value in e.row().items()} for e in trial.curve]
    assert [{key: row[key] for key in e} for row, e in zip(rows, shown, strict=True)] == shown
    assert [row["training_iteration"] for row in rows] == [row["epoch"] for row in rows]
    for row in rows:
        assert None not in row, "a row has more cells than the header"
        assert all(isinstance(cell, str) for cell in row.values()), "a row has fewer cells than the header"
        scores = {key.removeprefix("zero_cost_"): cell for key, cell in row.items() if key.startswith("zero_cost_")}
        assert scores == {name: str(score) for name, score in trial.zero_cost.items()}


def _check_config(config: dict[str, Any], trial: Trial) -> None:
    assert config["trial"] == trial.number
    assert config["seed"] == trial.asked.seed
    assert config["side"] == trial.network.trained.side
    assert {field.name for field in fields(Recipe)} <= config.keys()


def _check_run(run: Path, trial: Trial) -> None:
    """Check a run of TensorBoard: the epochs as steps, and the config as hyperparameters."""
    read = scalars(run)
    for name in ("loss", "top1", "lr", "seconds"):
        steps, values = zip(*read[f"ray/tune/{name}"], strict=True)
        assert steps == tuple(epoch.epoch for epoch in trial.curve)
        assert values == pytest.approx([epoch.row()[name] for epoch in trial.curve])
    assert all(math.isfinite(value) for points in read.values() for _, value in points)
    config = json.loads((run / "params.json").read_text())
    params = hparams(run)
    assert {name: params[name] for name in ("spec", "seed", "lr", "side")} == {
        name: config[name] for name in ("spec", "seed", "lr", "side")
    }
    assert {name for name, value in config.items() if value is not None} <= params.keys()


@pytest.mark.slow
def test_the_loggers_of_tune_write_every_epoch_of_an_ablation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    session, all_trials = _run(tmp_path, ABLATION, monkeypatch)
    assert [len(trial.curve) for trial in all_trials] == [2, 2]
    _check_files(session, all_trials)


@pytest.mark.slow
def test_the_stints_of_a_trial_are_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    session, all_trials = _run(tmp_path, HALVING, monkeypatch)
    assert sorted(len(trial.curve) for trial in all_trials) == [1, 1, 3]
    assert all(trial.zero_cost for trial in all_trials)
    _check_files(session, all_trials)
