"""A Ray cluster of two nodes on this machine, the second of which does not see some folders.

The nodes of `ray.cluster_utils` share this machine's disks, so a run on them does not show that a worker needs nothing
of the driver's disk. Here the second node has a mount namespace of its own, with an empty folder over each hidden one,
and its own folders for Ray, temporary files and decoded images.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from socket import socket
from tempfile import TemporaryDirectory

import pytest

from tests.study.waiting import wait_until

UNSHARE = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "--map-root-user"]
HIDDEN = "hidden"  # `needs: {accelerator: hidden}` in a study sends its trials to the second node,
ON_HIDDEN = {f"accelerator_type:{HIDDEN}": 0.001}  # and these resources a task of Ray
_HOSTS = ("127.0.0.2", "127.0.0.3")  # two loopback addresses, for two machines
_RAY = {"RAY_AUTH_MODE": "disabled", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1"}  # 0, that of local runs, refuses a node
_STARTED = "Ray runtime started"  # in the output of `ray start`
_CACHE = "cache"
_SECONDS_TO_STOP = 30.0
_WITH_THE_TEST = ["setpriv", "--pdeathsig=TERM"]  # the command ends with the process that started it, even a killed one


@dataclass(frozen=True)
class TwoNodes:
    """A running cluster of two nodes."""

    address: str
    driver: dict[str, str]  # environment of a driver, on the first node
    second_cache: Path  # the images that the second node decoded


@contextmanager
def two_nodes(*hidden: Path, head_cores: int = 0, **environment: str) -> Iterator[TwoNodes]:
    """Start a head, and a second node of one core for which each hidden folder is empty and read-only.

    The hidden folders must exist, none inside another. A head without cores runs no trial. `environment` is added to
    that of both nodes. Skips the test where mount namespaces are not permitted.
    """
    if subprocess.run([*UNSHARE, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True).returncode:
        pytest.skip(f"this system does not permit a mount under `{shlex.join(UNSHARE)}`")
    with TemporaryDirectory(prefix="hs_", dir="/tmp") as folder, ExitStack() as nodes:  # short, for Ray's sockets
        first, second = Path(folder, "1"), Path(folder, "2")
        driver, port = _own_folders(first) | _RAY, _free_port()
        head = ["--head", f"--port={port}", f"--num-cpus={head_cores}", "--include-dashboard=false"]
        nodes.enter_context(_running(_ray_start(_HOSTS[0], first, *head), first, driver | environment))
        worker = [
            f"--address={_HOSTS[0]}:{port}",
            "--num-cpus=1",
            "--resources",
            json.dumps(dict.fromkeys(ON_HIDDEN, 1)),
        ]
        hiding = _hiding((*hidden, first), _ray_start(_HOSTS[1], second, *worker))
        nodes.enter_context(_running(hiding, second, _own_folders(second) | _RAY | environment))
        yield TwoNodes(f"{_HOSTS[0]}:{port}", driver, second / _CACHE)


def _own_folders(home: Path) -> dict[str, str]:
    """Make a machine's folders; return the variables that name them."""
    folders = {"TMPDIR": home, "HIRI_SEARCH_CACHE": home / _CACHE, "HOME": home / "home"}
    for path in folders.values():
        path.mkdir(parents=True, exist_ok=True)
    return {name: str(path) for name, path in folders.items()}


def _ray_start(host: str, home: Path, *arguments: str) -> list[str]:
    ray = str(Path(sys.executable).with_name("ray"))
    common = ["--block", f"--node-ip-address={host}", f"--temp-dir={home}", f"--object-store-memory={10**8}"]
    return [ray, "start", "--disable-usage-stats", *common, *arguments]


def _hiding(folders: Sequence[Path], command: Sequence[str]) -> list[str]:
    """Return a command that runs this one where the folders are empty and read-only."""
    mounts = [shlex.join(["mount", "-t", "tmpfs", "-o", "ro", "none", str(folder)]) for folder in folders]
    return [*UNSHARE, "sh", "-c", " && ".join([*mounts, f"exec {shlex.join(command)}"])]


@contextmanager
def _running(command: Sequence[str], home: Path, environment: dict[str, str]) -> Iterator[None]:
    """Run a node until the end of the block; `ray start --block` ends the other processes of its node with itself."""
    log = home / "log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [*_WITH_THE_TEST, *command],
            env=os.environ | environment,
            cwd=home,
            start_new_session=True,
            stdout=output,
            stderr=output,
        )
    try:
        wait_until(lambda: _STARTED in log.read_text(), alive=lambda: process.poll() is None, interval=0.2)
        yield
    except AssertionError as error:
        error.add_note(log.read_text())
        raise
    finally:
        process.terminate()
        try:
            process.wait(_SECONDS_TO_STOP)
        finally:
            process.kill()


def _free_port() -> int:
    with socket() as probe:
        probe.bind((_HOSTS[0], 0))
        return int(probe.getsockname()[1])
