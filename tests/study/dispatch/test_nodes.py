"""A study on several machines, and several drivers on one study."""

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from socket import socket
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from hiri_search.study.config.read import read_study
from hiri_search.study.dispatch.ray_dispatcher import run_on_ray
from hiri_search.study.dispatch.resources import TrialResources
from hiri_search.study.dispatch.serial_dispatcher import run_serially
from hiri_search.study.ledger.events import AnyEvent, EpochEnded, StudyStarted, TrialEvent, TrialFinished, TrialLost
from hiri_search.study.ledger.layout import LEDGER, LEDGER_LOCK
from hiri_search.study.ledger.ledger import of_kind, read_events, trials
from hiri_search.study.ledger.trial import reproduced
from hiri_search.study.run import run
from hiri_search.system.shutdown import Shutdown
from tests.study.dispatch import fake_work
from tests.study.dispatch.growing import PORT, growing_cluster
from tests.study.dispatch.machines import ray_cluster
from tests.study.search.searches import ROWS, Quiet
from tests.study.waiting import PATIENCE, wait_until

pytestmark = [pytest.mark.waits, pytest.mark.slow]  # each test starts at least five processes that import torch
ROOT = Path(__file__).parents[3]
NODES = 3
STUDY = f"""{ROWS}proxy: {{width: 4, side: 32, classes: 4}}
data: {{source: drawn, train: 192, val: 32}}
recipe: {{epochs: 6, batch: 16, warmup_epochs: 0, mixup: 0.2, drop_path: 0.1}}
seeds: 2
"""


def _run_study(folder: Path, address: str | None) -> None:
    """Run the study on a cluster, or in this process without an address."""
    (folder / "study.yaml").write_text(STUDY)

    def dispatch(source: Any) -> None:
        if address is None:
            run_serially(source)
        else:
            run_on_ray(
                source,
                TrialResources(0),
                folder / "ray.log",
                Shutdown(),
                address=address,
                trial_function=fake_work.traced,
            )

    run(read_study(folder / "study.yaml"), folder / "results", dispatch, Quiet(), profile="none")


def test_a_node_that_dies_costs_at_most_one_epoch_and_changes_no_digit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("serial", "cluster"):
        (tmp_path / name).mkdir()
    _run_study(tmp_path / "serial", None)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with (
        ray_cluster(
            NODES, head={"num_cpus": 0, "include_dashboard": False}, PYTHONPATH=str(Path(fake_work.__file__).parents[3])
        ) as cluster,
        ProcessPoolExecutor(1, mp_context=get_context("spawn")) as driver,
    ):
        running = driver.submit(_run_study, tmp_path / "cluster", cluster.address)
        wait_until(lambda: running.done() or len(_running_trials(tmp_path / "cluster" / "results")) == NODES)
        cluster.kill_node(0)
        running.result(PATIENCE)
        assert cluster.alive() == NODES  # the head and the other worker nodes
    events = read_events(tmp_path / "cluster" / "results")
    assert of_kind(events, TrialLost), "the killed node ran a trial"
    assert _curves(events) == _curves(read_events(tmp_path / "serial" / "results"))
    trained = Counter((tmp_path / "cluster" / "results" / "trace").read_text().splitlines())
    repeated = Counter(line.split()[0] for line in (trained - Counter(set(trained))).elements())
    assert all(count == 1 for count in repeated.values()), "more than an epoch was trained again"


def _running_trials(results: Path) -> set[int]:
    """Trials with an epoch that are not finished."""
    events = read_events(results) if (results / LEDGER).exists() else []
    begun, finished = ({event.trial for event in of_kind(events, kind)} for kind in (EpochEnded, TrialFinished))
    return begun - finished


def _curves(events: Sequence[AnyEvent]) -> dict[tuple[str, int], object]:
    finished = (trial for trial in trials(events) if trial.state == "finished")
    return {(trial.network.name, trial.asked.seed): reproduced(trial.curve) for trial in finished}


# ---- a cluster that grows


class CountsNodes(fake_work.ListedTrials):
    """Notes at each epoch how many nodes have a core."""

    def __init__(self, home: Path, count: int, *, epochs: int) -> None:
        super().__init__(home, count, epochs=epochs)
        self.nodes = 0

    def on_event(self, event: TrialEvent) -> None:
        import ray

        super().on_event(event)
        self.nodes = max(self.nodes, int(ray.cluster_resources().get("CPU", 0)))


def _nodes_used(home: Path, address: str, slots: int) -> tuple[int, int]:
    """Return the finished trials of a run, and the nodes that it saw."""
    source = CountsNodes(home, 3, epochs=100)
    resources = TrialResources(slots, 0.0)
    log = home / "ray.log"
    run_on_ray(source, resources, log, Shutdown(), address=address, trial_function=fake_work.epochs)
    return len(source.reported(TrialFinished)), source.nodes


def _head_listens() -> bool:
    with socket() as connection:
        return not connection.connect_ex(("127.0.0.1", PORT))


def test_a_cluster_grows_because_one_trial_more_than_fits_waits(monkeypatch: pytest.MonkeyPatch):
    if _head_listens():
        pytest.skip(f"port {PORT}, which Ray's simulated autoscaler needs, is in use")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    with (
        TemporaryDirectory(prefix="hs_", dir="/tmp") as home,  # a short path, for Ray's sockets
        growing_cluster(Path(home)) as address,
        ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as driver,
    ):
        wait_until(_head_listens, interval=0.5)
        assert driver.submit(_nodes_used, Path(home), address, 1).result(PATIENCE) == (3, 1)
        assert driver.submit(_nodes_used, Path(home), address, 0).result(PATIENCE) == (3, 2)


# ---- several drivers of one study


def _start_driver(folder: Path) -> subprocess.Popen[str]:
    (folder / "study.yaml").write_text(STUDY.replace("epochs: 6", "epochs: 10000"))
    command = [sys.executable, "run_study.py", str(folder / "study.yaml"), "--results", str(folder / "results")]
    command += ["--serial"]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_one_of_five_drivers_runs_and_after_its_death_a_new_one_takes_over(tmp_path: Path):
    drivers = [_start_driver(tmp_path) for _ in range(5)]
    try:
        wait_until(lambda: sum(driver.poll() is not None for driver in drivers) == 4)
        (first,) = (driver for driver in drivers if driver.poll() is None)
        for driver in drivers:
            if driver is not first:
                _, error = driver.communicate()
                assert driver.returncode == 2
                assert error.startswith(f"error: {tmp_path / 'results'} is in use by process {first.pid} on ")
                assert len(error.splitlines()) == 1
        first.send_signal(signal.SIGKILL)
        drivers.append(_start_driver(tmp_path))
        assert drivers[-1].stdout
        assert drivers[-1].stdout.readline().startswith("profile none")  # its imports are done
        wait_until(lambda: (tmp_path / "results" / LEDGER_LOCK).read_text().startswith(f"{drivers[-1].pid} on "))
    finally:
        for driver in drivers:
            if driver.poll() is None:
                os.kill(driver.pid, signal.SIGKILL)
            driver.communicate()
    assert len(of_kind(read_events(tmp_path / "results"), StudyStarted)) <= 2
