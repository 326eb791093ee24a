"""Ray that comes, goes, is ended by somebody, or belongs to somebody else."""

import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

import pytest

from hiri_search.study.dispatch.ray_connection import check_answers
from hiri_search.study.dispatch.ray_executor import run_on_ray
from hiri_search.study.dispatch.resources import TrialResources
from hiri_search.study.dispatch.worker import TrialFunction
from hiri_search.study.errors import StudyError
from hiri_search.study.ledger.events import Event
from hiri_search.system.shutdown import REPEAT_SECONDS, Shutdown
from hiri_search.system.temp_dir import temporary_directory
from tests.study.dispatch import fake_work as works
from tests.study.dispatch.machines import machines

pytestmark = pytest.mark.waits
CARD = 2  # tasks that share one


def _work(home: Path, do: TrialFunction, *, count: int = 1) -> works.Listed:
    feed = works.Listed(home, count)
    run_on_ray(feed, TrialResources(1), home / "ray.log", Shutdown(), do=do)
    return feed


@pytest.fixture(autouse=True)
def _found_by_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(works.__file__).parents[3]))


class EndsRay(works.Listed):
    """Ends a process of Ray's own at the first epoch that it hears of."""

    def on_event(self, event: Event) -> None:
        if event["event"] == "epoch" and not self.events:
            (raylet,) = _below(os.getpid(), "/raylet/raylet ")
            (agent,) = _below(raylet, "ray::RuntimeEnvAgent")
            os.kill(agent, signal.SIGKILL)
        super().on_event(event)


def _below(parent: int, name: str) -> list[int]:
    found = subprocess.run(["pgrep", "-P", f"{parent}", "-f", name], capture_output=True, text=True)
    return [int(pid) for pid in found.stdout.split()]


@pytest.mark.slow
def test_a_ray_that_was_ended_from_outside_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Its raylet goes when one of its helpers is gone; tasks would wait for another machine for ever."""
    for name, value in {"period_ms": 500, "timeout_ms": 2000, "failure_threshold": 1}.items():
        monkeypatch.setenv(f"RAY_health_check_{name}", f"{value}")  # a minute otherwise
    feed = EndsRay(tmp_path, 4)
    with pytest.raises(StudyError, match="Ray has ended"):
        run_on_ray(feed, TrialResources(1), tmp_path / "ray.log", Shutdown(), do=works.epochs)
    assert not feed.told("finished")


def test_a_signal_that_comes_twice_at_once_is_one(tmp_path: Path):
    """A parent passes it on: `uv run` does."""
    leaving = Shutdown()
    leaving._epochs_running = True
    leaving.on_signal(15, None)
    leaving.on_signal(15, None)
    leaving._requested_at -= 2 * REPEAT_SECONDS
    with pytest.raises(KeyboardInterrupt):
        leaving.on_signal(15, None)


def test_nothing_of_it_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    homes: list[Path] = []

    @contextmanager
    def noted() -> Iterator[Path]:
        with temporary_directory() as folder:
            homes.append(folder)
            yield folder

    monkeypatch.setattr("hiri_search.study.dispatch.ray_executor.temporary_directory", noted)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))  # too long a path for sockets
    feed = _work(tmp_path, works.plain, count=2)
    assert len({event["device"] for event in feed.told("began")}) == 1
    assert not list(tmp_path.glob("hiri_*"))
    (own,) = homes
    assert own.parent == Path("/tmp")
    assert not own.exists()


# ---- on a cluster


@pytest.fixture
def head() -> Iterator[str]:
    """A node that believes to have two cards."""
    with machines(0, head={"num_cpus": 4, "num_gpus": 2, "include_dashboard": False}) as there:
        yield there.address


def _shared_cards(home: Path, address: str) -> works.Listed:
    feed = works.Listed(home, 10)
    run_on_ray(feed, TrialResources(0, 1 / CARD), home / "ray.log", Shutdown(), address=address, do=works.needs_a_card)
    return feed


def test_what_does_not_fit_beside_others_gets_a_card_alone(tmp_path: Path, head: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as another:  # Ray knows one way to listen a process
        feed = another.submit(_shared_cards, tmp_path, head).result()
    assert Counter(e["trial"] for e in feed.told("finished")) == dict.fromkeys(range(10), 1)
    assert {e["trial"] for e in feed.told("crowded")} == {2, 3}
    lines = [line.split() for line in (tmp_path / "log").read_text().splitlines()]
    at_work: dict[str, list[str]] = {}
    most = 0
    for what, trial, card, alone in lines:
        there = at_work.setdefault(card, [])
        there.append(f"{trial} {alone}") if what == "begin" else there.remove(f"{trial} {alone}")
        assert len(there) <= (1 if any(one.endswith("True") for one in there) else CARD)
        most = max(most, len(there))
    assert most == CARD
    assert len(at_work) == 2


def test_the_ray_of_somebody_else_is_neither_joined_nor_hurt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with machines(1, head={"num_cpus": 1, "include_dashboard": False}) as theirs:
        feed = _work(tmp_path, works.where)
        assert len(feed.told("finished")) == 1
        ours = {event["device"] for event in feed.told("began")}
        assert len(ours) == 1
        assert theirs.address not in ours
        assert theirs.alive() == 2
        assert theirs.process.poll() is None


NO_CLUSTERS = {
    "127.0.0.1:1": "no Ray answers at 127.0.0.1:1: ",
    "ray://127.0.0.1:1": "no Ray answers at ray://127.0.0.1:1: ",
    "http://127.0.0.1:8265": "ray job submit --address http://127.0.0.1:8265",
    "somewhere": "'somewhere' is no address of a Ray cluster; write auto, HOST:PORT or ray://HOST:PORT",
    "host:port": "'host:port' is no address",
    "127.0.0.1:99999": "no Ray answers at 127.0.0.1:99999",
}


@pytest.mark.parametrize(("address", "wanted"), NO_CLUSTERS.items(), ids=NO_CLUSTERS)
def test_an_address_where_no_cluster_is_gives_an_error_at_once(address: str, wanted: str, tmp_path: Path):
    started = time.monotonic()
    with pytest.raises(StudyError) as error:
        check_answers(address)
    assert wanted in str(error.value)
    assert time.monotonic() - started < 15
