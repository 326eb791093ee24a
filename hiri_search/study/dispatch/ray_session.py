"""A running Ray: started for this process alone, or a cluster that exists; and the log of its output."""

from __future__ import annotations

import logging
import math
import os
import secrets
import socket
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

import hiri_search
from hiri_search.study.dispatch.resources import TrialResources
from hiri_search.study.errors import StudyError
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
    "RAY_worker_niceness": "0",  # added to that of this process; Ray's 15 starves trials beside any other work
    "RAY_gcs_server_port_wait_time_s": "120",  # for Ray's first server on a busy machine; Ray's own limit is 30
    "RAY_worker_register_timeout_seconds": "300",  # for a worker to start; Ray's own limit is 60
    # Where memory runs out the kernel kills a worker, and its trial continues; after Ray's own monitor Tune gives up.
    "RAY_memory_monitor_refresh_ms": "0",
}
WORKER_ENV = {
    "OMP_WAIT_POLICY": "PASSIVE",  # idle threads of a trial leave the cores to other trials
    "OPENBLAS_NUM_THREADS": "1",  # numpy's threads would wait for the cores of other trials; OMP's follow Ray's CPUs
    "TUNE_FUNCTION_THREAD_TIMEOUT_S": "60",  # in which the thread of a stopped trial must end
}

CONNECTION_ENV = {"RAY_NUM_REDIS_GET_RETRIES": "1"}  # attempts of 30 s to reach the head; Ray makes 20
START_ATTEMPTS = 3  # of a local Ray
_NODE_SECONDS = 90.0  # in which Ray's node must come up at the first attempt; Ray itself waits for 30, with no setting
_SERVER_LOGS = ("gcs_server", "raylet")  # of Ray's parts, whose logs say why it did not start
_LOG_LINES = 20  # kept of each
_CONNECT_SECONDS = 10.0  # longest wait for a TCP connection; Ray itself waits for ten minutes
_TOKEN_ADVICE = (
    "if the cluster requires a token, set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH as on its nodes"
)
_ADDRESS_ADVICE = "write auto or HOST:PORT"


@contextmanager
def ray_running(address: str | None, resources: TrialResources, say: Say, log: Path | None = None) -> Iterator[None]:
    """Connect to a cluster, or start a local Ray if there is no address; `log` has the output of Ray, if a file has.

    StudyError where Ray does not answer, or does not start.
    """
    settings = RAY_ENV | WORKER_ENV
    if address:
        settings |= CONNECTION_ENV
    if in_a_job():  # the environment of a job's workers also comes from `uv run`
        del settings[_UV_RUN]
    os.environ.update({name: os.environ.get(name, value) for name, value in settings.items()})
    with connected(address, say, WORKER_ENV) if address else _local_ray(resources, say, log):
        yield


@contextmanager
def _local_ray(resources: TrialResources, say: Say, log: Path | None) -> Iterator[None]:
    """Start a Ray that listens on loopback only, with its own token and a temporary folder.

    StudyError where it does not start in START_ATTEMPTS; standard error, the log, then has the reasons.
    """
    secure_local_ray()
    import ray

    with ExitStack() as stack:
        for attempt in range(1, START_ATTEMPTS + 1):
            folder = stack.enter_context(temporary_directory())
            try:
                with _node_may_take(attempt * _NODE_SECONDS):
                    _start(resources, folder)
                break
            except Exception as error:  # Ray raises plain ones, where a part of it did not come up in time
                _end_parts(folder)
                if isinstance(error, OSError) and error.errno:  # a full disk, no permission: not a matter of time
                    raise
                _print_reasons(folder)
                problem = f"Ray did not start on this machine: {(str(error).splitlines() or [type(error).__name__])[0]}"
                if attempt == START_ATTEMPTS:
                    reasons = f"{log or 'the output above'} has the reasons"
                    raise StudyError(f"{problem} ({attempt} attempts); {reasons}; --serial needs no Ray") from error
                say(f"{problem}; attempt {attempt + 1} of {START_ATTEMPTS}")
        stack.callback(ray.shutdown)
        yield


def _start(resources: TrialResources, folder: Path) -> None:
    import ray

    ray.init(
        address="local",  # do not join another Ray on this machine
        num_cpus=math.ceil(resources.count * resources.cpus) or None,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=128 << 20,
        _temp_dir=str(folder),
    )


@contextmanager
def _node_may_take(seconds: float) -> Iterator[None]:
    """Let `ray.init` wait so long for the node that it starts, which takes minutes where other work keeps the cores."""
    from ray._private import services

    find = getattr(services, "get_node", None)  # raises RuntimeError until the node is up; absent in some versions
    if find is None:
        yield
        return

    def find_patiently(*arguments: object) -> object:
        end = time.monotonic() + seconds
        while True:
            try:
                return find(*arguments)
            except RuntimeError:
                if time.monotonic() > end:
                    raise
            time.sleep(0.5)

    services.get_node = find_patiently
    try:
        yield
    finally:
        services.get_node = find


def _end_parts(folder: Path) -> None:
    """Kill the processes of a Ray that did not start: `ray.shutdown` does not know them yet."""
    import psutil  # comes with Ray
    import ray

    ray.shutdown()
    for child in psutil.Process().children():
        with suppress(psutil.Error):
            if any(str(folder) in word for word in child.cmdline()):
                child.kill()


def _print_reasons(folder: Path) -> None:
    """Print the traceback of an error, and the ends of the logs that Ray left in its temporary folder."""
    traceback.print_exc()
    for path in sorted(folder.glob("session_2*/logs/*")):
        if path.name.startswith(_SERVER_LOGS) and path.stat().st_size:
            end = path.read_text(errors="replace").splitlines()[-_LOG_LINES:]
            print(f"---- {path.name}", *end, sep="\n", file=sys.stderr)


def secure_local_ray() -> None:
    """Require loopback and a token. Must run before Ray is imported: Ray reads these variables once."""
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # 0: loopback only, on every system
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    if os.environ["RAY_AUTH_MODE"] == "token" and "RAY_AUTH_TOKEN_PATH" not in os.environ:
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # else Ray writes a token into the home


def in_a_job() -> bool:
    """Return true if `ray job submit` started this process or a parent of it."""
    return "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ


@contextmanager
def connected(address: str, say: Say, environment: Mapping[str, str]) -> Iterator[None]:
    """Connect to a cluster; its workers get this package and these environment variables.

    StudyError if the address does not answer, or the cluster refuses the connection.
    """
    check_answers(address)
    import ray

    package = str(Path(hiri_search.__file__).parent)
    runtime_env = {"py_modules": [package], "excludes": ["__pycache__"], "env_vars": dict(environment)}
    try:
        context = ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, runtime_env=runtime_env)
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise StudyError(f"cannot connect to the Ray cluster at {address}: {lines[0]}; {_TOKEN_ADVICE}") from error
    try:
        if url := context.dashboard_url:
            say(f"Ray's dashboard: {url if '://' in url else f'http://{url}'}")
        yield
    finally:
        ray.shutdown()


def check_answers(address: str) -> None:
    """Raise StudyError if the address is malformed or nothing listens there; `auto` is checked by `connected`."""
    if address == "auto":
        return
    if address.startswith("ray://"):
        problem = f"{address} is an address of the Ray client, through which Ray Tune would run on the head node"
        raise StudyError(f"{problem}, away from the results; write `ray job submit --address http://HOST:8265 ...`")
    if address.startswith(("http://", "https://")):
        advice = f"`ray job submit --address {address} ...`; to join a cluster, {_ADDRESS_ADVICE}"
        raise StudyError(f"{address} is an address for jobs: {advice}")
    host, colon, port = address.rpartition(":")
    if not (colon and host and port.isdigit()):
        raise StudyError(f"{address!r} is no address of a Ray cluster; {_ADDRESS_ADVICE}")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        remedy = "write the address of its head node, or start one there with `ray start --head`"
        raise StudyError(f"no Ray cluster answers at {address}: {error}; {remedy}") from error


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
