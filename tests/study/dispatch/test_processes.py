"""Trials of several processes through Ray: one that is killed, and the nodes that they are on."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from threading import Thread

import pytest

import hiri_search
from hiri_search.api.running import dispatcher
from hiri_search.study.config.read import read_study
from hiri_search.study.dispatch.resources import TrialResources
from hiri_search.study.ledger.events import EpochEnded, TrialBegan, TrialLost
from hiri_search.study.ledger.layout import LEDGER
from hiri_search.study.ledger.ledger import of_kind, read_events, trials
from hiri_search.study.ledger.trial import Trial, reproduced
from hiri_search.study.run import run
from hiri_search.system.shutdown import Shutdown
from hiri_search.training.job import Epoch
from tests.study.dispatch.machines import ray_cluster
from tests.study.search.searches import Quiet
from tests.study.waiting import PATIENCE, wait_until

STUDY = """
nets: {a: hr(8 e=4) -> t(16 e=2 d=8)}
counted: {side: 32, classes: 10}
proxy: {side: 32, classes: 4}
data: {source: drawn, train: 320, val: 32}
recipe: {epochs: 6, batch: 16, warmup_epochs: 0, drop_path: 0.1}
seeds: 1
resources: {processes: 2}
"""
PROCESS = b"ray::rank 1 of a trial"  # its title on Ray


@pytest.mark.parametrize("gpus", [0.0, 4.0])
def test_a_trial_has_as_many_places_as_processes_on_any_nodes(gpus: float):
    resources = TrialResources(0, gpus, cpus=4.0, processes=4)
    node = {"CPU": 3.0, "GPU": 2.0}
    assert [resources.trials([node] * nodes) for nodes in (1, 2, 4)] == ([0, 1, 2] if gpus else [0, 1, 3])


def _run(folder: Path, address: str | None = None) -> Trial:
    """Run the study through Ray; return its trial."""
    folder.mkdir()
    (folder / "study.yaml").write_text(STUDY)
    dispatch = dispatcher(folder / "results", Shutdown(), TrialResources(1, 0.0, cpus=2.0, processes=2), address)
    run(read_study(folder / "study.yaml"), folder / "results", dispatch, Quiet(), profile="none")
    (trial,) = trials(read_events(folder / "results"))
    return trial


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Epoch, ...]:
    return reproduced(_run(tmp_path_factory.mktemp("unbroken") / "study").curve)


def _kill_after_an_epoch(results: Path) -> None:
    ledger = results / LEDGER
    wait_until(lambda: ledger.exists() and of_kind(read_events(results), EpochEnded))
    (process,) = [file.parent for file in Path("/proc").glob("[0-9]*/cmdline") if PROCESS in _read(file)]
    os.kill(int(process.name), signal.SIGKILL)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:  # the process has ended
        return b""


@pytest.mark.slow
@pytest.mark.waits
def test_a_trial_goes_on_from_its_checkpoint_where_one_of_its_processes_was_killed(
    tmp_path: Path, unbroken: tuple[Epoch, ...]
):
    results = tmp_path / "study" / "results"
    killer = Thread(target=_kill_after_an_epoch, args=(results,), daemon=True)
    killer.start()
    trial = _run(tmp_path / "study")
    killer.join()
    assert reproduced(trial.curve) == unbroken
    events = read_events(results)
    (lost,) = of_kind(events, TrialLost)
    assert lost.fault == "process"
    assert "another process of the trial died" in lost.reason
    assert [event.result.epoch for event in of_kind(events, EpochEnded)] == [1, 2, 3, 4, 5, 6]
    assert {event.device for event in of_kind(events, TrialBegan)} == {trial.device}
    assert trial.device.startswith("2 processes by gloo, each with CPU")


@pytest.mark.slow
@pytest.mark.waits
def test_the_processes_of_a_trial_may_be_on_two_nodes(tmp_path: Path, unbroken: tuple[Epoch, ...]):
    """The driver is a process of its own: Ray joins one cluster a process."""
    head = {"num_cpus": 0, "include_dashboard": False}
    with (
        pytest.MonkeyPatch.context() as patched,
        ray_cluster(2, head=head, PYTHONPATH=str(Path(hiri_search.__file__).parents[1])) as cluster,
        ProcessPoolExecutor(1, mp_context=get_context("spawn")) as driver,
    ):
        patched.setenv("RAY_AUTH_MODE", "disabled")
        trial = driver.submit(_run, tmp_path / "study", cluster.address).result(PATIENCE)
    assert reproduced(trial.curve) == unbroken


WAITING = """
import os, sys, time
from pathlib import Path
from hiri_search.study.dispatch.ray_session import ray_running
from hiri_search.study.dispatch.resources import TrialResources
with ray_running(None, TrialResources(1), print):
    import ray
    from hiri_search.study.dispatch.processes import ray_ranks
    ray_ranks._GRACE_SECONDS = 1.0
    dead = ray.remote(max_retries=0)(lambda: os._exit(1)).remote()
    with ray_ranks._watching([dead], Path(sys.argv[1])):
        time.sleep(240)  # as NCCL waits for a process that has died
"""


@pytest.mark.slow
@pytest.mark.waits
def test_a_process_that_does_not_notice_the_death_of_another_is_killed_and_the_reason_is_kept(tmp_path: Path):
    done = subprocess.run([sys.executable, "-c", WAITING, str(tmp_path / "stack.txt")], timeout=PATIENCE, check=False)
    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / "stack.txt").read_text().startswith("RankDied: another process of the trial died")
