"""Trials side by side on Ray actors, on this machine or a cluster."""

from __future__ import annotations

import logging
import math
import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from hiri_search.study.dispatch import ray_connection
from hiri_search.study.dispatch.ray_connection import connected, in_a_job
from hiri_search.study.dispatch.resources import TrialResources
from hiri_search.study.dispatch.task import TrialSource, TrialTask
from hiri_search.study.dispatch.worker import TrialFunction, Worker
from hiri_search.study.dispatch.worker_pool import WorkerFactory, WorkerPool
from hiri_search.study.errors import StudyError
from hiri_search.system.concurrency import repeat_in_background
from hiri_search.system.files import Say
from hiri_search.system.shutdown import Shutdown
from hiri_search.system.temp_dir import temporary_directory

LOOK_AGAIN = 10.0  # seconds between looks at how many trials a cluster has room for
LOG_BYTES = 5 << 20  # of ray.log, before it is begun anew
LOG_SECONDS = 5.0  # between looks at how long it is

# Read by Ray when it is imported.
UV_RUN = "RAY_ENABLE_UV_RUN_RUNTIME_ENV"
RAY_ENV = {
    UV_RUN: "0",  # under `uv run` it would build its workers another environment
    "RAY_ROTATION_MAX_BYTES": f"{LOG_BYTES}",  # of each of its own logs, which are begun anew once
    "RAY_ROTATION_BACKUP_COUNT": "1",
}
WORKER_ENV = {"OMP_WAIT_POLICY": "PASSIVE"}  # waiting threads do not take the cores from the other trials


def run_on_ray(
    feed: TrialSource,
    slots: TrialResources,
    log: Path,
    leaving: Shutdown,
    *,
    do: TrialFunction,
    address: str | None = None,
) -> None:
    """Trials side by side through Ray; what Ray prints goes to `log`.

    Without an address on this machine, with a Ray of its own that ends with it. StudyError where Ray cannot be
    reached, or no process started.
    """
    first = feed.next()
    if first is None:
        return  # all is done: no need to start Ray
    assert isinstance(first, TrialTask), "nothing is at work that could be waited for"
    with noise_to(log), _ray(address, slots, leaving.say):
        _hand_out(first, feed, slots, leaving, do)


def _hand_out(first: TrialTask, feed: TrialSource, slots: TrialResources, leaving: Shutdown, do: TrialFunction) -> None:
    """From this task to the last, through the Ray that has been started."""
    with leaving.epochs_running():
        slots = _resolved(slots, feed, leaving.say)
        WorkerPool(feed, _yard(slots, do, _Look(slots, leaving.say)), leaving, timeout=slots.timeout).run(first)


@contextmanager
def _ray(address: str | None, slots: TrialResources, say: Say) -> Iterator[None]:
    settings = RAY_ENV | WORKER_ENV
    if address:
        settings |= ray_connection.CONNECTION_ENV
    if in_a_job():  # there `uv run` says what the processes for trials need, too
        del settings[UV_RUN]
    os.environ.update({name: os.environ.get(name, value) for name, value in settings.items()})
    with connected(address, say, WORKER_ENV) if address else _own(slots):
        yield


@contextmanager
def _own(slots: TrialResources) -> Iterator[None]:
    """A Ray that listens on loopback alone, with a token of its own, whose files go with it."""
    _be_private()
    import ray

    with temporary_directory() as folder:
        try:
            ray.init(
                address="local",  # never somebody else's Ray that happens to run here
                num_cpus=math.ceil(slots.count * slots.cpus) or None,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                object_store_memory=128 << 20,
                _temp_dir=str(folder),
            )
            yield
        finally:
            ray.shutdown()


def _be_private() -> None:
    """Before Ray is imported, for the life of this process: Ray keeps what it once read."""
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # Ray's word for loopback alone, on any system
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    if os.environ["RAY_AUTH_MODE"] == "token" and "RAY_AUTH_TOKEN_PATH" not in os.environ:
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # Ray's own way writes one into the home


def _resolved(slots: TrialResources, feed: TrialSource, say: Say) -> TrialResources:
    """With a card for each trial where nothing is said and there are cards; with what was measured for `auto`."""
    import ray

    has_cards = "GPU" in ray.cluster_resources()
    if slots.gpus != "auto":
        return slots if slots.gpus is not None else replace(slots, gpus=float(has_cards))
    if not has_cards:
        return replace(slots, gpus=0.0)
    kind = {"accelerator_type": slots.accelerator} if slots.accelerator else {}
    from hiri_search.training.gpu_memory import trials_per_gpu  # slow

    fit = ray.get(ray.remote(trials_per_gpu).options(num_gpus=1, **kind).remote(*feed.most_memory()))
    say(f"{fit} trials fit on a card, by the memory that the heaviest was measured to take")
    return replace(slots, gpus=1 / fit)


def _yard(slots: TrialResources, do: TrialFunction, look: Callable[[], None]) -> WorkerFactory:
    import ray

    class RayHand(Worker):
        """A hand that knows where it is."""

        def _place(self) -> str:
            return f"{ray.get_runtime_context().get_node_id()} {ray.get_gpu_ids()}"

    actor = ray.remote(RayHand)
    kind: dict[str, Any] = {"accelerator_type": slots.accelerator} if slots.accelerator else {}

    def hire(alone: bool) -> Any:
        options = {"num_cpus": slots.cpus, "num_gpus": 1.0 if alone else slots.gpu_share} | kind
        placed = actor.options(scheduling_strategy="SPREAD", **options)
        return placed.remote(do, beside_others=slots.per_gpu > 1 and not alone)

    return WorkerFactory(hire, (lambda: slots.count) if slots.count else _Room(slots), slots.per_gpu, look)


class _Look:
    """Why no process for trials comes up: said once where another machine may help."""

    def __init__(self, slots: TrialResources, say: Say) -> None:
        self.slots, self.say, self.said = slots, say, False

    def __call__(self) -> None:
        """StudyError where no machine is left, as when Ray's own processes were ended by somebody else."""
        import ray

        there = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        if not there:
            raise StudyError("Ray has ended, or was ended by somebody; the same command goes on with the study")
        if not any(map(self.slots.fit, there)) and not self.said:
            self.said = True
            self.say(f"no machine of the cluster has {self.slots.wanted} for a trial; waiting for one that has")


class _Room:
    """How many trials a cluster holds, which may grow and shrink."""

    def __init__(self, slots: TrialResources) -> None:
        self.slots, self._seen, self._looked = slots, 0, -math.inf

    def __call__(self) -> int:
        if time.monotonic() - self._looked > LOOK_AGAIN:
            self._seen, self._looked = self._look(), time.monotonic()
        return self._seen

    def _look(self) -> int:
        import ray

        return sum(self.slots.fit(node["Resources"]) for node in ray.nodes() if node["Alive"])


@contextmanager
def noise_to(log: Path) -> Iterator[None]:
    """Whatever this process, and those it starts, print goes to a file meanwhile, of `LOG_BYTES` or little more."""
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(1), os.dup(2)]
    try:
        with log.open("ab") as file, repeat_in_background(partial(_bound, file.fileno()), every=LOG_SECONDS):
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
            yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, old in enumerate(kept, 1):
            os.dup2(old, number)
            os.close(old)


def _bound(file: int) -> None:
    """Begin it anew where it has grown too long; all who write to it do so at its end, wherever that is."""
    if os.fstat(file).st_size > LOG_BYTES:
        os.truncate(file, 0)
