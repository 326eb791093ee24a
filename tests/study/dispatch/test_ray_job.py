"""`ray job submit` to a head that the test starts: what travels, what runs, how it is stopped."""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from hiri_search.study.ledger.ledger import read_events

pytest.importorskip(
    "aiohttp_cors",
    reason="ray job submit wants ray[default]: uv run --extra cluster pytest -m slow tests/study/test_job.py",
)

ROOT = Path(__file__).parents[3]
RAY = Path(sys.executable).with_name("ray")
PATIENCE = 240  # seconds
MOST_BYTES = 4 << 20  # of what is sent
STUDY = """
nets:
  small: hr(32 e=4) -> hr(64 e=4)
counted: {side: 64, classes: 10}
proxy: {width: 4, side: 32, classes: 4}
data: {source: drawn, train: 64, val: 32}
recipe: {epochs: 2, batch: 16, warmup_epochs: 0}
seeds: 2
"""


@dataclass(frozen=True)
class Head:
    """A node that takes jobs from those who know its token."""

    home: Path
    environment: dict[str, str]

    def ray(self, *command: str, **more: str) -> subprocess.CompletedProcess[str]:
        environment = self.environment | more
        return subprocess.run([str(RAY), *command], env=environment, cwd=ROOT, capture_output=True, text=True)


def _free() -> str:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return str(one.getsockname()[1])


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    home = Path("/tmp") / f"hs_{os.getpid()}"  # short: of sockets
    dashboard = _free()
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    # Under `uv run pytest` Ray would start its own processes by `uv run`, too.
    token = {"RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0", "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16)}
    address = {"RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{dashboard}", "PATH": path}
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"} | token | address
    ports = [f"--port={_free()}", f"--dashboard-port={dashboard}", f"--ray-client-server-port={_free()}"]
    command = [str(RAY), "start", "--head", "--block", "--num-cpus=2", f"--temp-dir={home}", *ports]
    command += ["--disable-usage-stats", f"--dashboard-agent-listen-port={_free()}", "--object-store-memory=100000000"]
    with subprocess.Popen(command, env=environment, start_new_session=True, stdout=subprocess.DEVNULL) as process:
        found = Head(home, environment)
        _wait(lambda: found.ray("job", "list").returncode == 0)
        yield found
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(30)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    subprocess.run(["rm", "-rf", str(home)], check=True)


def _wait(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, "nothing comes of it"
        time.sleep(0.5)


def _study(folder: Path, **changed: int) -> list[str]:
    text = STUDY
    for name, value in changed.items():
        text = text.replace(f"{name}: 2", f"{name}: {value}")
    (folder / "study.yaml").write_text(text)
    return ["python", "run_study.py", str(folder / "study.yaml"), "--results", str(folder / "results")]


@pytest.mark.slow
def test_a_job_comes_to_its_tables_and_little_travels(head: Head, tmp_path: Path):
    ran = head.ray("job", "submit", "--working-dir", ".", "--", *_study(tmp_path))
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "Ray's dashboard: http://" in ran.stdout, "it has joined, and not started one"
    assert (tmp_path / "results" / "report" / "trials.csv").exists()
    (sent,) = (path for path in head.home.glob("session_2*/runtime_resources/working_dir_files/*") if path.is_dir())
    assert {"hiri_search", "studies", "spaces", "run_study.py", "pyproject.toml"} <= {
        one.name for one in sent.iterdir()
    }
    assert not {".git", ".venv", "results", "tests", "benchmarks"} & {one.name for one in sent.iterdir()}
    assert sum(file.stat().st_size for file in sent.rglob("*") if "__pycache__" not in file.parts) < MOST_BYTES


@pytest.mark.slow
def test_a_job_that_is_stopped_ends_its_epochs_and_writes_its_report(head: Head, tmp_path: Path):
    patient = json.dumps({"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "100"}})
    name = f"stopped_{os.getpid()}"
    submit = ("job", "submit", "--no-wait", "--submission-id", name, "--working-dir", ".")
    begun = head.ray(*submit, "--runtime-env-json", patient, "--", *_study(tmp_path, epochs=5000))
    assert begun.returncode == 0, begun.stdout + begun.stderr
    results = tmp_path / "results"
    _wait(lambda: (results / "ledger.jsonl").exists() and '"epoch"' in (results / "ledger.jsonl").read_text())
    head.ray("job", "stop", name)
    told = head.ray("job", "logs", name).stdout
    assert "stopping after the running epochs" in told
    assert "2 trials are unfinished; the same command goes on with them" in told
    assert (results / "report" / "trials.csv").exists()
    assert not [event for event in read_events(results) if event["event"] in ("lost", "failed")]
