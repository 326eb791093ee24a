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

CLIENT = "ray://"
CONNECT_SECONDS = 10.0  # seconds that an address has to answer at all; Ray itself would try for ten minutes
TOKENS = "if it wants a token, set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH as on its nodes"
FORMS = "write auto, HOST:PORT or ray://HOST:PORT"

# Read by Ray when it is imported.
CONNECTION_ENV = {"RAY_NUM_REDIS_GET_RETRIES": "1"}  # attempts of half a minute each to reach a head, of 20


def in_a_job() -> bool:
    """Whether `ray job submit` has started this process, or what started it."""
    return "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ


@contextmanager
def connected(address: str, say: Say, environment: Mapping[str, str]) -> Iterator[None]:
    """This package is sent to its nodes, whose processes for trials have this in their environment.

    StudyError where nobody answers, or where it does not let us in.
    """
    check_answers(address)
    import ray

    package = str(Path(hiri_search.__file__).parent)
    sent = {"py_modules": [package], "excludes": ["__pycache__"], "env_vars": dict(environment)}
    try:
        context = ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, runtime_env=sent)
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise StudyError(f"the Ray at {address} cannot be joined: {said[0]}; {TOKENS}") from error
    try:
        if context.dashboard_url:
            say(f"Ray's dashboard: {_url(context.dashboard_url)}")
        yield
    finally:
        ray.shutdown()


def _url(dashboard: str) -> str:
    return dashboard if "://" in dashboard else f"http://{dashboard}"


def check_answers(address: str) -> None:
    """StudyError where it is no address of a cluster, or nobody listens there; `auto` is found when it is joined."""
    if address == "auto":
        return
    if address.startswith(("http://", "https://")):
        raise StudyError(f"{address} takes jobs: `ray job submit --address {address} ...`; to join a cluster, {FORMS}")
    host, colon, port = address.removeprefix(CLIENT).rpartition(":")
    if not (colon and host and port.isdigit()):
        raise StudyError(f"{address!r} is no address of a Ray cluster; {FORMS}")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise StudyError(f"no Ray answers at {address}: {error}") from error
