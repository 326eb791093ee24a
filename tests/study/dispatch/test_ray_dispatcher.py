"""Runs on Ray: start and end, a killed Ray, another Ray on the machine, trials that need a GPU alone."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

import pytest

from hiri_search.study.dispatch.ray_dispatcher import run_on_ray
from hiri_search.study.dispatch.ray_session import START_ATTEMPTS, check_answers
from hiri_search.study.dispatch.resources import TrialResources
from hiri_search.study.dispatch.task import TrialFunction
from hiri_search.study.errors import StudyError
from hiri_search.study.ledger.events import EpochEnded, TrialEvent, TrialFinished, TrialOutOfMemory
from hiri_search.system.shutdown import REPEAT_SECONDS, Shutdown
from hiri_search.system.temp_dir import temporary_directory
from tests.study.dispatch import fake_work
from tests.study.dispatch.machines import ray_cluster

pytestmark = pytest.mark.waits
PER_GPU = 2  # trials that share a GPU


def _run(home: Path, function: TrialFunction, *, count: int = 1) -> fake_work.ListedTrials:
    source = fake_work.ListedTrials(home, count)
    run_on_ray(source, TrialResources(1), home / "ray.log", Shutdown(), trial_function=function)
    return source


@pytest.fixture(autouse=True)
def _fake_work_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(fake_work.__file__).parents[3]))


SLOW_START = """
import os
from pathlib import Path
from hiri_search.study.dispatch.ray_session import ray_running
from hiri_search.study.dispatch.resources import TrialResources
from hiri_search.study.errors import StudyError

try:
    with ray_running(None, TrialResources(1), print, Path("results/ray.log")):
        pass
except StudyError as error:
    print(error)
ends_well = lambda text: print(text, os.environ.pop("RAY_gcs_server_port_wait_time_s"))
with ray_running(None, TrialResources(1), ends_well):
    import ray
    niceness = ray.remote(lambda: os.getpriority(os.PRIO_PROCESS, 0))
    print(ray.get(niceness.remote()) - os.getpriority(os.PRIO_PROCESS, 0))
"""


def test_a_ray_that_does_not_start_in_time_is_tried_again_and_then_its_log_is_named():
    environment = os.environ | {"RAY_gcs_server_port_wait_time_s": "0"}
    command = [sys.executable, "-c", SLOW_START]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    *attempts, failure, again, niceness = ran.stdout.splitlines()
    assert len(attempts) == START_ATTEMPTS - 1
    assert re.fullmatch(
        r"Ray did not start on this machine: Timed out .* \(3 attempts\); results/ray.log has the reasons; --serial .*",
        failure,
    )
    assert ran.stderr.count("Traceback") == START_ATTEMPTS + 1
    assert again.endswith("attempt 2 of 3 0")
    assert niceness == "0", "a worker gets a fair share beside other processes"


class KillsRay(fake_work.ListedTrials):
    """Kills one of Ray's own processes at the first epoch."""

    def on_event(self, event: TrialEvent) -> None:
        if isinstance(event, EpochEnded) and not self.reported(EpochEnded):
            (raylet,) = _children(os.getpid(), "/raylet/raylet ")
            (agent,) = _children(raylet, "ray::RuntimeEnvAgent")
            os.kill(agent, signal.SIGKILL)
        super().on_event(event)


def _children(parent: int, name: str) -> list[int]:
    listing = subprocess.run(["pgrep", "-P", f"{parent}", "-f", name], capture_output=True, text=True)
    return [int(pid) for pid in listing.stdout.split()]


@pytest.mark.slow
def test_a_killed_ray_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The raylet ends with its runtime-env agent; without the check the tasks would wait for another node for ever."""
    for name, value in {"period_ms": 500, "timeout_ms": 2000, "failure_threshold": 1}.items():
        monkeypatch.setenv(f"RAY_health_check_{name}", f"{value}")  # a minute otherwise
    source = KillsRay(tmp_path, 4, epochs=100)
    with pytest.raises(StudyError, match="Ray has ended"):
        run_on_ray(source, TrialResources(1), tmp_path / "ray.log", Shutdown(), trial_function=fake_work.epochs)
    assert not source.reported(TrialFinished)


def test_two_signals_at_once_count_as_one(tmp_path: Path):
    """A parent process such as `uv run` passes a signal on."""
    shutdown = Shutdown()
    shutdown._epochs_running = True
    shutdown.on_signal(15, None)
    shutdown.on_signal(15, None)
    shutdown._requested_at -= 2 * REPEAT_SECONDS
    with pytest.raises(KeyboardInterrupt):
        shutdown.on_signal(15, None)


def test_the_temporary_folder_of_ray_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    homes: list[Path] = []

    @contextmanager
    def recorded() -> Iterator[Path]:
        with temporary_directory() as folder:
            homes.append(folder)
            yield folder

    monkeypatch.setattr("hiri_search.study.dispatch.ray_session.temporary_directory", recorded)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))  # this path is too long for sockets
    source = _run(tmp_path, fake_work.plain, count=2)
    assert len({event.result.loss for event in source.reported(EpochEnded)}) == 1, "one process ran both"
    assert not list(tmp_path.glob("hiri_*"))
    (own,) = homes
    assert own.parent == Path("/tmp")
    assert not own.exists()


# ---- on a cluster


@pytest.fixture
def head() -> Iterator[str]:
    """A node that claims two GPUs."""
    with ray_cluster(0, head={"num_cpus": 4, "num_gpus": 2, "include_dashboard": False}) as cluster:
        yield cluster.address


def _run_on_shared_gpus(home: Path, address: str) -> fake_work.ListedTrials:
    source = fake_work.ListedTrials(home, 10)
    run_on_ray(
        source,
        TrialResources(0, 1 / PER_GPU),
        home / "ray.log",
        Shutdown(),
        address=address,
        trial_function=fake_work.needs_a_gpu,
    )
    return source


def test_a_trial_that_does_not_fit_on_a_shared_gpu_gets_one_alone(
    tmp_path: Path, head: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    # In a process of its own: a process can connect to Ray in one mode only.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as driver:
        source = driver.submit(_run_on_shared_gpus, tmp_path, head).result()
    assert Counter(e.trial for e in source.reported(TrialFinished)) == dict.fromkeys(range(10), 1)
    assert {e.trial for e in source.reported(TrialOutOfMemory)} == {2, 3}
    lines = [line.split() for line in (tmp_path / "log").read_text().splitlines()]
    running: dict[str, list[str]] = {}
    most = 0
    for action, trial, gpu, alone in lines:
        sharing = running.setdefault(gpu, [])
        sharing.append(f"{trial} {alone}") if action == "begin" else sharing.remove(f"{trial} {alone}")
        assert len(sharing) <= (1 if any(entry.endswith("True") for entry in sharing) else PER_GPU)
        most = max(most, len(sharing))
    assert most == PER_GPU
    assert len(running) == 2


@pytest.mark.slow
def test_another_ray_on_the_machine_is_neither_joined_nor_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with ray_cluster(1, head={"num_cpus": 1, "include_dashboard": False}) as foreign:
        source = _run(tmp_path, fake_work.ray_address)
        assert len(source.reported(TrialFinished)) == 1
        assert foreign.address != (tmp_path / "address").read_text()
        assert foreign.alive() == 2
        assert foreign.process.poll() is None


NO_CLUSTERS = {
    "127.0.0.1:1": "no Ray cluster answers at 127.0.0.1:1: ",
    "ray://127.0.0.1:10001": "write `ray job submit --address http://HOST:8265 ...`",
    "http://127.0.0.1:8265": "ray job submit --address http://127.0.0.1:8265",
    "somewhere": "'somewhere' is no address of a Ray cluster; write auto or HOST:PORT",
    "host:port": "'host:port' is no address",
    "127.0.0.1:99999": "no Ray cluster answers at 127.0.0.1:99999",
}


@pytest.mark.parametrize(("address", "wanted"), NO_CLUSTERS.items(), ids=NO_CLUSTERS)
def test_an_address_without_a_cluster_is_an_error_within_seconds(
    address: str, wanted: str, monkeypatch: pytest.MonkeyPatch
):
    limits, connect = list[float](), socket.create_connection

    def limited(place: tuple[str, int], seconds: float) -> socket.socket:
        limits.append(seconds)
        return connect(place, seconds)

    monkeypatch.setattr(socket, "create_connection", limited)
    with pytest.raises(StudyError) as error:
        check_answers(address)
    assert wanted in str(error.value)
    assert all(seconds < 15 for seconds in limits), "the only step that waits has a time limit"
