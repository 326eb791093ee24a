"""Trials side by side on Ray actors, on this machine or a cluster."""

from __future__ import annotations

import logging
import math
import os
import secrets
import sys
import time
from collections.abc import Iterator
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

CAPACITY_SECONDS = 10.0  # seconds between two counts of the trials that fit on a cluster
LOG_BYTES = 5 << 20  # size at which ray.log is truncated
LOG_SECONDS = 5.0  # seconds between two checks of this size

# Ray reads these when it is imported.
_UV_RUN = "RAY_ENABLE_UV_RUN_RUNTIME_ENV"
RAY_ENV = {
    _UV_RUN: "0",  # under `uv run` Ray would build another environment for its workers
    "RAY_ROTATION_MAX_BYTES": f"{LOG_BYTES}",  # of each of Ray's own log files
    "RAY_ROTATION_BACKUP_COUNT": "1",
}
WORKER_ENV = {"OMP_WAIT_POLICY": "PASSIVE"}  # idle threads of a trial leave the cores to other trials


def run_on_ray(
    source: TrialSource,
    resources: TrialResources,
    log: Path,
    shutdown: Shutdown,
    *,
    trial_function: TrialFunction,
    address: str | None = None,
) -> None:
    """Run all trials side by side on a Ray cluster; output of Ray goes to `log`.

    Without an address this process starts a local Ray and ends it. StudyError if Ray cannot be reached or no worker
    can be started.
    """
    first = source.next()
    if first is None:
        return  # nothing to run: do not start Ray
    assert isinstance(first, TrialTask), "no trial is running: the source has no reason to wait"
    with redirect_output(log), ray_running(address, resources, shutdown.say):
        run_tasks(first, source, resources, shutdown, trial_function)


def run_tasks(
    first: TrialTask, source: TrialSource, resources: TrialResources, shutdown: Shutdown, trial_function: TrialFunction
) -> None:
    """Run this task and all others of the source on the running Ray."""
    with shutdown.epochs_running():
        resources = _resolve_gpus(resources, source, shutdown.say)
        factory = _worker_factory(resources, trial_function, _Cluster(resources, shutdown.say))
        WorkerPool(source, factory, shutdown, timeout=resources.timeout).run(first)


@contextmanager
def ray_running(address: str | None, resources: TrialResources, say: Say) -> Iterator[None]:
    """Connect to a cluster, or start a local Ray if there is no address."""
    settings = RAY_ENV | WORKER_ENV
    if address:
        settings |= ray_connection.CONNECTION_ENV
    if in_a_job():  # the environment of a job's workers also comes from `uv run`
        del settings[_UV_RUN]
    os.environ.update({name: os.environ.get(name, value) for name, value in settings.items()})
    with connected(address, say, WORKER_ENV) if address else _local_ray(resources):
        yield


@contextmanager
def _local_ray(resources: TrialResources) -> Iterator[None]:
    """Start a Ray that listens on loopback only, with its own token and a temporary folder."""
    secure_local_ray()
    import ray

    with temporary_directory() as folder:
        try:
            ray.init(
                address="local",  # do not join another Ray on this machine
                num_cpus=math.ceil(resources.count * resources.cpus) or None,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                object_store_memory=128 << 20,
                _temp_dir=str(folder),
            )
            yield
        finally:
            ray.shutdown()


def secure_local_ray() -> None:
    """Require loopback and a token. Must run before Ray is imported: Ray reads these variables once."""
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # 0: loopback only, on every system
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    if os.environ["RAY_AUTH_MODE"] == "token" and "RAY_AUTH_TOKEN_PATH" not in os.environ:
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # else Ray writes a token into the home


def _resolve_gpus(resources: TrialResources, source: TrialSource, say: Say) -> TrialResources:
    """Replace unspecified GPUs by one if the cluster has GPUs, and `auto` by the measured share."""
    import ray

    has_gpus = "GPU" in ray.cluster_resources()
    if resources.gpus != "auto":
        return resources if resources.gpus is not None else replace(resources, gpus=float(has_gpus))
    if not has_gpus:
        return replace(resources, gpus=0.0)
    kind = {"accelerator_type": resources.accelerator} if resources.accelerator else {}
    from hiri_search.training.gpu_memory import trials_per_gpu  # slow import

    fitting = ray.get(ray.remote(trials_per_gpu).options(num_gpus=1, **kind).remote(*source.most_memory()))
    say(f"{fitting} trials fit on a GPU, by the measured memory of the largest trial")
    return replace(resources, gpus=1 / fitting)


def _worker_factory(resources: TrialResources, trial_function: TrialFunction, cluster: _Cluster) -> WorkerFactory:
    import ray

    class RayWorker(Worker):
        """A Worker as a Ray actor, which knows its node and GPUs."""

        def _place(self) -> str:
            return f"{ray.get_runtime_context().get_node_id()} {ray.get_gpu_ids()}"

    actor = ray.remote(RayWorker)
    kind: dict[str, Any] = {"accelerator_type": resources.accelerator} if resources.accelerator else {}

    def start(alone: bool) -> Any:
        options = {"num_cpus": resources.cpus, "num_gpus": 1.0 if alone else resources.gpu_share} | kind
        spread = actor.options(scheduling_strategy="SPREAD", **options)
        return spread.remote(trial_function, shared_gpu=resources.per_gpu > 1 and not alone)

    return WorkerFactory(start, cluster.capacity, resources.per_gpu, cluster.check)


class _Cluster:
    """The nodes of a cluster, which may grow and shrink."""

    def __init__(self, resources: TrialResources, say: Say) -> None:
        self._resources, self._say, self._explained = resources, say, False
        self._capacity, self._counted_at = 0, -math.inf

    def capacity(self) -> int:
        """Return the number of trials side by side: the number asked for, or as many as fit on the nodes now."""
        if not self._resources.count and time.monotonic() - self._counted_at > CAPACITY_SECONDS:
            self._capacity, self._counted_at = sum(map(self._resources.capacity, _alive_nodes())), time.monotonic()
        return self._resources.count or self._capacity

    def check(self) -> None:
        """Explain once why no worker starts, if another node could help. StudyError if no node is alive."""
        nodes = _alive_nodes()
        if not nodes:  # for example after another process killed Ray
            raise StudyError("Ray has ended, or another process ended it; the same command goes on with the study")
        if not any(map(self._resources.capacity, nodes)) and not self._explained:
            self._explained = True
            self._say(f"no node of the cluster has {self._resources.description} for a trial; waiting for such a node")


def _alive_nodes() -> list[dict[str, float]]:
    """Return the resources of each node that is alive."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


@contextmanager
def redirect_output(log: Path) -> Iterator[None]:
    """Append stdout and stderr of this process and its children to a file of about `LOG_BYTES` at most."""
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    originals = [os.dup(1), os.dup(2)]
    try:
        with log.open("ab") as file, repeat_in_background(partial(_truncate, file.fileno()), every=LOG_SECONDS):
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
            yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, original in enumerate(originals, 1):
            os.dup2(original, number)
            os.close(original)


def _truncate(file: int) -> None:
    """Empty a log file that is too long; its writers append, so that they go on at the new end."""
    if os.fstat(file).st_size > LOG_BYTES:
        os.truncate(file, 0)
