"""`ray job submit` to a Ray head that the test starts: files that are sent, the run, and `ray job stop`."""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from hiri_search.study.ledger.events import TrialFailed, TrialLost
from hiri_search.study.ledger.ledger import of_kind, read_events
from tests.study.waiting import wait_until

pytest.importorskip(
    "aiohttp_cors",
    reason="needs ray[default]: uv run --extra cluster pytest -m slow tests/study/dispatch/test_ray_job.py",
)

ROOT = Path(__file__).parents[3]
RAY = Path(sys.executable).with_name("ray")
MAX_BYTES = 4 << 20  # of the working directory that is sent
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
    """A Ray head that accepts jobs with its token."""

    home: Path
    environment: dict[str, str]

    def ray(self, *command: str, **more: str) -> subprocess.CompletedProcess[str]:
        environment = self.environment | more
        return subprocess.run([str(RAY), *command], env=environment, cwd=ROOT, capture_output=True, text=True)


def _free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    home = Path("/tmp") / f"hs_{os.getpid()}"  # a short path, for Ray's sockets
    dashboard = _free_port()
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    # Under `uv run pytest` Ray would also start its workers by `uv run`.
    token = {"RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0", "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16)}
    address = {"RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{dashboard}", "PATH": path}
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"} | token | address
    ports = [f"--port={_free_port()}", f"--dashboard-port={dashboard}", f"--ray-client-server-port={_free_port()}"]
    command = [str(RAY), "start", "--head", "--block", "--num-cpus=2", f"--temp-dir={home}", *ports]
    command += [
        "--disable-usage-stats",
        f"--dashboard-agent-listen-port={_free_port()}",
        "--object-store-memory=100000000",
    ]
    with subprocess.Popen(command, env=environment, start_new_session=True, stdout=subprocess.DEVNULL) as process:
        started = Head(home, environment)
        wait_until(lambda: started.ray("job", "list").returncode == 0, interval=0.5)
        yield started
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(30)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    subprocess.run(["rm", "-rf", str(home)], check=True)


def _run_command(folder: Path, **changed: int) -> list[str]:
    text = STUDY
    for name, value in changed.items():
        text = text.replace(f"{name}: 2", f"{name}: {value}")
    (folder / "study.yaml").write_text(text)
    return ["python", "run_study.py", str(folder / "study.yaml"), "--results", str(folder / "results")]


@pytest.mark.slow
def test_a_job_writes_its_report_and_sends_few_files(head: Head, tmp_path: Path):
    ran = head.ray("job", "submit", "--working-dir", ".", "--", *_run_command(tmp_path))
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "Ray's dashboard: http://" in ran.stdout, "the job joins the cluster and starts no Ray of its own"
    assert (tmp_path / "results" / "report" / "trials.csv").exists()
    (sent,) = (path for path in head.home.glob("session_2*/runtime_resources/working_dir_files/*") if path.is_dir())
    assert {"hiri_search", "studies", "spaces", "run_study.py", "pyproject.toml"} <= {
        path.name for path in sent.iterdir()
    }
    assert not {".git", ".venv", "results", "tests", "benchmarks"} & {path.name for path in sent.iterdir()}
    assert sum(file.stat().st_size for file in sent.rglob("*") if "__pycache__" not in file.parts) < MAX_BYTES


@pytest.mark.slow
def test_a_stopped_job_ends_its_epochs_and_writes_its_report(head: Head, tmp_path: Path):
    patient = json.dumps({"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "100"}})
    name = f"stopped_{os.getpid()}"
    submit = ("job", "submit", "--no-wait", "--submission-id", name, "--working-dir", ".")
    submitted = head.ray(*submit, "--runtime-env-json", patient, "--", *_run_command(tmp_path, epochs=5000))
    assert submitted.returncode == 0, submitted.stdout + submitted.stderr
    results = tmp_path / "results"
    wait_until(
        lambda: (results / "ledger.jsonl").exists() and '"epoch"' in (results / "ledger.jsonl").read_text(),
        interval=0.5,
    )
    head.ray("job", "stop", name)
    log = head.ray("job", "logs", name).stdout
    assert "stopping after the running epochs" in log
    assert "2 trials are unfinished; the same command continues them" in log
    assert (results / "report" / "trials.csv").exists()
    assert not of_kind(read_events(results), TrialLost) + of_kind(read_events(results), TrialFailed)
