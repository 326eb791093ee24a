"""Workers on a local Ray: deaths, hangs and shutdowns are reported, and every task is done."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from hiri_search.study.dispatch import tune_dispatcher
from hiri_search.study.dispatch.capacity import ClusterWorkers
from hiri_search.study.dispatch.ray_dispatcher import run_tasks
from hiri_search.study.dispatch.ray_session import ray_running
from hiri_search.study.dispatch.resources import TrialResources
from hiri_search.study.dispatch.task import TrialFunction, TrialTask
from hiri_search.study.dispatch.task_tracker import TaskTracker
from hiri_search.study.errors import StudyError
from hiri_search.study.ledger.events import EpochEnded, TrialEvent, TrialFinished, TrialLost
from hiri_search.system.shutdown import Shutdown
from tests.study.dispatch import fake_work
from tests.study.dispatch.fake_work import ListedTrials

pytestmark = pytest.mark.waits


@pytest.fixture(scope="module", autouse=True)
def _one_ray() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PYTHONPATH", str(Path(fake_work.__file__).parents[3]))
        with ray_running(None, TrialResources(2), lambda text: None):
            yield


def _run(home: Path, function: TrialFunction, *, workers: int = 1, count: int = 4, **resources: Any) -> ListedTrials:
    source = ListedTrials(home, count)
    _run_source(source, Shutdown(), function, TrialResources(workers, **resources))
    return source


def _run_source(source: ListedTrials, shutdown: Shutdown, function: TrialFunction, resources: TrialResources) -> None:
    first = source.next()
    assert first
    run_tasks(first, source, resources, shutdown, function)


@pytest.mark.parametrize(("function", "workers"), [(fake_work.dies_once, 2), (fake_work.returns_without_end, 1)])
def test_only_the_trial_of_a_dead_worker_is_lost(tmp_path: Path, function: TrialFunction, workers: int):
    before = dict(os.environ)
    source = _run(tmp_path, function, workers=workers)
    assert os.environ == before
    assert Counter(e.trial for e in source.reported(TrialFinished)) == {0: 1, 1: 1, 2: 1, 3: 1}
    (lost,) = source.reported(TrialLost)
    assert (lost.trial, lost.fault) == (1, "process")


def test_a_trial_that_hangs_is_lost_and_its_stack_is_reported(tmp_path: Path):
    source = _run(tmp_path, fake_work.hangs_once, count=2, timeout=2.0)
    assert len(source.reported(TrialFinished)) == 2
    (lost,) = source.reported(TrialLost)
    assert "no step for" in lost.reason
    assert "waits_for_ever" in lost.traceback


def test_a_slow_trial_with_heartbeats_is_not_lost(tmp_path: Path):
    source = _run(tmp_path, fake_work.slow_steps, count=1, timeout=1.5)
    assert len(source.reported(TrialFinished)) == 1
    assert not source.reported(TrialLost)


class ShutdownAtFirstEpoch(ListedTrials):
    """Requests a shutdown at the first epoch."""

    def __init__(self, home: Path, shutdown: Shutdown) -> None:
        super().__init__(home, 4, epochs=100)
        self.shutdown = shutdown

    def on_event(self, event: TrialEvent) -> None:
        super().on_event(event)
        if isinstance(event, EpochEnded) and not self.shutdown.requested:
            self.shutdown.on_signal(2, None)


def test_a_shutdown_waits_for_the_end_of_an_epoch_and_no_longer(tmp_path: Path):
    shutdown = Shutdown()
    source = ShutdownAtFirstEpoch(tmp_path, shutdown)
    with pytest.raises(KeyboardInterrupt):
        _run_source(source, shutdown, fake_work.epochs, TrialResources(1))
    assert {event.trial for event in source.reported(EpochEnded)} == {0}, "no other trial begins"
    assert not source.reported(TrialFinished)


@pytest.mark.parametrize("name", ["FailsAtTheBeginning", "FailsAtTheEnd", "Missing"])
def test_an_error_of_a_callback_of_the_user_is_one_clear_error(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("RAY_TUNE_CALLBACKS", f"tests.study.dispatch.fake_callbacks.{name}")
    missing = "ValueError: Failed to import callback from '.*Missing'"
    wanted = missing if name == "Missing" else "OSError: the server does not answer"
    with pytest.raises(StudyError, match=f"^Ray Tune ended the run: {wanted}; when that is repaired, the same command"):
        _run(tmp_path, fake_work.plain)


@dataclass
class EndedTrial:
    """A trial of Tune that has ended."""

    trial_id: str

    def is_finished(self) -> bool:
        return True


def test_a_trial_whose_worker_could_not_be_used_again_is_lost(tmp_path: Path):
    source = ListedTrials(tmp_path, 1)
    first = source.next()
    assert isinstance(first, TrialTask)
    tracker = TaskTracker(first, source, Shutdown(), ClusterWorkers(TrialResources(1), print))
    run = tune_dispatcher._Run(tracker, timeout=1.0)
    searcher = tune_dispatcher._TaskSearcher(run)
    assert searcher.suggest("a")["trial"] == 0
    run.trials["a"] = EndedTrial("a")
    assert searcher.suggest("b")["trial"] == 0, "it comes again"
    assert [lost.fault for lost in source.reported(TrialLost)] == ["process"]


def test_a_module_that_workers_lack_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "only_here.py").write_text("def work(task, report, heartbeat, *, shared_gpu): ...")
    monkeypatch.syspath_prepend(tmp_path)  # of this process only: Ray's processes run already
    missing = import_module("only_here")
    wanted = r"No module named 'only_here'.*install hiri-search.*docs/cluster.md"
    with pytest.raises(StudyError, match=wanted) as error:
        _run(tmp_path, missing.work)
    assert len(str(error.value)) < 500
