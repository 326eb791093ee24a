"""Successive halving and confirmation with real trainings: stops, confirmations, and unchanged results after kills."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from optuna import load_study
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from hiri_search.study.config.read import read_study
from hiri_search.study.dispatch.ray_dispatcher import run_on_ray
from hiri_search.study.dispatch.resources import TrialResources
from hiri_search.study.dispatch.run_trial import run_trial
from hiri_search.study.dispatch.serial_dispatcher import run_serially
from hiri_search.study.dispatch.task import TrialSource, TrialTask, Wait
from hiri_search.study.errors import StudyError
from hiri_search.study.export.optuna_export import build_export, to_file
from hiri_search.study.ledger.events import EpochEnded
from hiri_search.study.ledger.ledger import read_events, trials
from hiri_search.study.ledger.trial import Trial
from hiri_search.study.run import run
from hiri_search.system.shutdown import Shutdown
from hiri_search.training import loop
from tests.study.search.searches import Quiet

STUDY = """
space: (hr | cffn)(32 e=2..4)*1..2 -> (hr | t(d=32|64))(64 e=4|6)
within: {mparams: ..1.4}
search:
  networks: 9
  halving: {epochs: [1, 2], keep: 0.34}
  zero_cost: [synflow, naswot, zen]
confirm: {top: 2, partners: 0, seeds: 2, epochs: x2}
counted: {side: 64, classes: 10}
proxy: {width: 4, side: 32, classes: 4}
data: {source: drawn, train: 32, val: 16}
recipe: {epochs: 3, batch: 16, warmup_epochs: 0.5, ema: 0.0}
"""
TIMES = {"seconds": 0.0, "images_per_second": 0.0, "seconds_waiting": 0.0}


def _run(folder: Path, *sets: str, dispatch: Callable[[TrialSource], None] = run_serially) -> list[Trial]:
    folder.mkdir(exist_ok=True)
    (folder / "study.yaml").write_text(STUDY)
    run(read_study(folder / "study.yaml", sets=sets), folder, dispatch, Quiet(), profile="none")
    return trials(read_events(folder))


def _outcome(trial: Trial) -> tuple[object, ...]:
    curve = [replace(epoch, **TIMES) for epoch in trial.curve]
    return trial.number, trial.asked, trial.state, trial.zero_cost, curve


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> list[Trial]:
    return _run(tmp_path_factory.mktemp("unbroken"))


def test_fewer_trials_reach_each_rung_and_the_best_are_confirmed(unbroken: list[Trial]):
    searched, confirmations = ([t for t in unbroken if t.is_confirmation == wanted] for wanted in (False, True))
    reached = [sum(len(t.curve) >= rung for t in searched) for rung in (1, 2, 3)]
    assert reached[0] == 9
    assert 3 <= reached[1] <= 5, "a third, and those that were among the best for a while"
    assert 1 <= reached[2] < reached[1]
    finished = [t for t in searched if t.state == "finished"]
    assert len(finished) == reached[2]
    assert {t.state for t in searched if t not in finished} == {"stopped"}
    confirmed = {(t.network.key, t.asked.seed, len(t.curve)) for t in confirmations}
    assert confirmed == {(t.network.key, seed, 6) for t in finished[:2] for seed in (0, 1)}


def test_all_trials_meet_the_budget_and_have_zero_cost_scores(unbroken: list[Trial]):
    assert all(t.network.params <= 1_400_000 for t in unbroken)
    assert all(set(t.zero_cost) == ({"synflow", "naswot", "zen"} if not t.is_confirmation else set()) for t in unbroken)
    assert all(None not in t.zero_cost.values() for t in unbroken)
    assert len({t.zero_cost["zen"] for t in unbroken if t.zero_cost}) == 9


def test_a_promoted_trial_resumes_from_its_rung(unbroken: list[Trial], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    trained: list[int] = []

    def counting(number: int, *arguments: Any) -> Any:
        trained.append(number)
        return epoch(number, *arguments)

    epoch = loop._epoch
    monkeypatch.setattr(loop, "_epoch", counting)
    assert [_outcome(t) for t in _run(tmp_path)] == [_outcome(t) for t in unbroken]
    assert len(trained) == sum(len(t.curve) for t in unbroken)


class Killed(BaseException):
    """Stands for a kill signal."""


def _dying(every: int, seen_events: set[str]) -> Callable[[TrialSource], None]:
    """Return a dispatcher that dies at every n-th new event, before the scheduler receives it."""

    def dispatch(source: TrialSource) -> None:
        count = 0

        def on_event(event):
            nonlocal count
            epoch = event.result.epoch if isinstance(event, EpochEnded) else None
            name = f"{event.event} {event.trial} {epoch} {len(getattr(event, 'curve', []))}"
            count += name not in seen_events
            seen_events.add(name)
            if count == every:
                raise Killed
            source.on_event(event)

        while task := source.next():
            assert isinstance(task, TrialTask)
            run_trial(task, on_event)

    return dispatch


@pytest.mark.parametrize("every", [4, pytest.param(7, marks=pytest.mark.slow)])
def test_a_study_killed_many_times_has_the_same_results(unbroken: list[Trial], tmp_path: Path, every: int):
    kills, seen_events = 0, set[str]()
    while True:
        try:
            resumed = _run(tmp_path, dispatch=_dying(every, seen_events))
        except Killed:
            kills += 1
        else:
            break
    assert kills >= 3
    assert [_outcome(t) for t in resumed] == [_outcome(t) for t in unbroken]


def test_a_confirmation_can_be_added_to_a_finished_search(unbroken: list[Trial], tmp_path: Path):
    first_run = _run(tmp_path, "confirm={top: 1, partners: 0, seeds: 1, epochs: x1}")
    second_run = _run(tmp_path, "confirm={top: 1, partners: 0, seeds: 2, epochs: x2}")
    assert len(second_run) == len(first_run) + 2
    assert [_outcome(t) for t in second_run[:9]] == [_outcome(t) for t in unbroken[:9]]


@pytest.mark.parametrize("cut", [4, None], ids=["with paused trials", "whole"])
def test_the_export_holds_the_trials_without_confirmations(unbroken: list[Trial], tmp_path: Path, cut: int | None):
    paused = [replace(t, state="paused", curve=t.curve[:1]) for t in unbroken[:cut]] if cut else unbroken
    (tmp_path / "study.yaml").write_text(STUDY)
    exported = build_export(read_study(tmp_path / "study.yaml"), paused, {}, name="mine")
    to_file(exported, tmp_path / "optuna.journal")
    storage = JournalStorage(JournalFileBackend(str(tmp_path / "optuna.journal")))
    assert len(load_study(study_name="mine", storage=storage).trials) == (cut or 9)


@pytest.mark.slow
@pytest.mark.waits
def test_no_trial_is_lost_side_by_side(tmp_path: Path):
    """Through Ray the order depends on timing; the counts do not."""
    all_trials = _run(
        tmp_path,
        dispatch=partial(
            run_on_ray,
            resources=TrialResources(2),
            log=tmp_path / "ray.log",
            shutdown=Shutdown(),
            trial_function=run_trial,
        ),
    )
    searched = [t for t in all_trials if not t.is_confirmation]
    assert len(searched) == 9
    assert all(t.ended for t in all_trials)
    finished = [t for t in searched if t.state == "finished"]
    assert 1 <= len(finished) <= 3
    assert sum(t.is_confirmation for t in all_trials) == 2 * min(2, len(finished))


def test_confirmations_run_side_by_side(tmp_path: Path):
    most = 0

    def dispatch(source: TrialSource) -> None:
        """Run two tasks at a time; the older ends first."""
        nonlocal most
        tasks: list[TrialTask] = []
        while True:
            task = source.next() if len(tasks) < 2 else Wait.WAIT
            if isinstance(task, TrialTask):
                tasks.append(task)
                confirmations = [t for t in tasks if t.job.recipe.epochs == 6]
                most = max(most, len(confirmations))
            elif tasks:
                run_trial(tasks.pop(0), source.on_event)
            else:
                return

    _run(tmp_path, dispatch=dispatch)
    assert most == 2


REFUSED = [
    ("search.halving.epochs=[1, 3]", r"search\.halving\.epochs.*the last rung must be less than recipe\.epochs=3"),
    ("search.halving.epochs=[2, 1]", r"rungs must increase; write them as in"),
    ("search.halving.brackets=4", r"write at most 3, one for each rung and one without rungs"),
    ("confirm.epochs=twice", r"confirm\.epochs='twice' is not valid; write a number, or x4"),
    ("confirm.epochs=2", r"less than recipe\.epochs; write at least 3"),
    ("seeds=2", r"search\.halving needs exactly one"),
    ("within.mparams=1.4", r"within\.mparams: '1\.4' is not a range"),
    ("within.top1=50..", r"within\.top1: this is not a metric of a budget"),
    ("within.mparams=..0.001", r"within: .*mparams"),
]


@pytest.mark.parametrize(("text", "message"), REFUSED, ids=[text for text, _ in REFUSED])
def test_an_impossible_setting_is_refused_before_training(text: str, message: str, tmp_path: Path):
    with pytest.raises(StudyError, match=message):
        _run(tmp_path, text)
    assert not (tmp_path / "ledger.jsonl").exists()
