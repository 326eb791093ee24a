"""A running Ray: started for this process alone, or a cluster that exists; and the log of its output."""

from __future__ import annotations

import logging
import math
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from hiri_search.study.dispatch import ray_connection
from hiri_search.study.dispatch.ray_connection import connected, in_a_job
from hiri_search.study.dispatch.resources import TrialResources
from hiri_search.system.concurrency import repeat_in_background
from hiri_search.system.files import Say
from hiri_search.system.temp_dir import temporary_directory

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
