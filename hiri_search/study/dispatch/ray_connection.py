"""Connecting to an existing Ray cluster."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import hiri_search
from hiri_search.study.errors import StudyError
from hiri_search.system.files import Say

CONNECTION_ENV = {"RAY_NUM_REDIS_GET_RETRIES": "1"}  # attempts of 30 s to reach the head; Ray makes 20
_CLIENT_PREFIX = "ray://"
_CONNECT_SECONDS = 10.0  # longest wait for a TCP connection; Ray itself waits for ten minutes
_TOKEN_ADVICE = (
    "if the cluster requires a token, set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH as on its nodes"
)
_ADDRESS_ADVICE = "write auto, HOST:PORT or ray://HOST:PORT"


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
    if address.startswith(("http://", "https://")):
        advice = f"`ray job submit --address {address} ...`; to join a cluster, {_ADDRESS_ADVICE}"
        raise StudyError(f"{address} is an address for jobs: {advice}")
    host, colon, port = address.removeprefix(_CLIENT_PREFIX).rpartition(":")
    if not (colon and host and port.isdigit()):
        raise StudyError(f"{address!r} is no address of a Ray cluster; {_ADDRESS_ADVICE}")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise StudyError(f"no Ray cluster answers at {address}: {error}") from error
