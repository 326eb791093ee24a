"""Studies with a storage: what is left of a machine that is lost, is in there, and comes to the same digits."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Timer
from typing import Any

import pytest

from hiri_search.cli.main import main
from hiri_search.study.config.identity import canonical_form
from hiri_search.study.config.read import read_study
from hiri_search.study.dispatch.run_trial import run_trial
from hiri_search.study.dispatch.serial_executor import run_serially
from hiri_search.study.dispatch.task import Heartbeat, Report, TrialTask
from hiri_search.study.errors import StudyError
from hiri_search.study.ledger.layout import LEDGER
from hiri_search.study.ledger.ledger import read_events, trials
from hiri_search.study.ledger.trial import Trial
from hiri_search.study.run import run
from hiri_search.training import loop
from tests.s3_server import BUCKET, SECRET, Server, serving
from tests.study.search.searches import Quiet

ROOT = Path(__file__).parents[3]
STUDY = """
nets:
  small: hr(32 e=4) -> hr(64 e=4) -> t(128 e=2)
  other: hr(32 e=4) -> cffn(64 e=4) -> t(128 e=2)
counted: {side: 64, classes: 10}
proxy: {width: 4, side: 32, classes: 4}
data: {source: drawn, train: 64, val: 32}
recipe: {epochs: 4, batch: 16, mixup: 0.2, cutmix: 1.0, drop_path: 0.1}
"""
DIGITS = ("epoch", "loss", "lr", "top1", "top5", "ema_top1", "ema_top5")
Do = Callable[..., None]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return digits(_run(tmp_path_factory.mktemp("unbroken")))


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The epochs that are really trained."""
    found: list[int] = []
    epoch = loop._epoch

    def noted(number: int, *given: Any) -> Any:
        found.append(number)
        return epoch(number, *given)

    monkeypatch.setattr(loop, "_epoch", noted)
    return found


def _run(home: Path, *sets: str, do: Do = run_trial, watcher: Quiet | None = None, text: str = STUDY) -> list[Trial]:
    home.mkdir(exist_ok=True)
    (home / "study.yaml").write_text(text)
    study = read_study(home / "study.yaml", sets=sets)
    run(study, home / "results", partial(run_serially, do=do), watcher or Quiet(), profile="none")
    return trials(read_events(home / "results"))


def digits(done: list[Trial]) -> dict[str, Any]:
    """Of the curve of each trial."""
    return {t.asked["name"]: [[epoch[name] for name in DIGITS] for epoch in t.curve] for t in done}


# ---- one machine after the other


class Gone(BaseException):
    """The machine is lost."""


@pytest.mark.parametrize("kind", ["path", "memory"])
def test_a_fresh_folder_goes_on_from_the_storage_alone(
    kind: str, tmp_path: Path, unbroken: dict[str, Any], trained: list[int]
):
    (tmp_path / "shared").mkdir()
    storage = f"storage={tmp_path / 'shared' if kind == 'path' else f'memory://{tmp_path.name}'}"

    def until(last: int, task: TrialTask, tell: Report, beat: Heartbeat, **more: Any) -> None:
        def on_event(event: dict[str, Any]) -> None:
            tell(event)
            if (event["event"], event.get("epoch"), event["trial"]) == ("epoch", last, 1):
                raise Gone

        run_trial(task, on_event, beat, **more)

    with pytest.raises(Gone):
        _run(tmp_path / "first", storage, do=partial(until, 1))
    with pytest.raises(Gone):
        _run(tmp_path / "second", storage, do=partial(until, 3))
    shutil.rmtree(tmp_path / "first")
    assert digits(_run(tmp_path / "third", storage)) == unbroken
    assert Counter(trained) == dict.fromkeys(range(1, 5), 2), "each epoch of both trials once"


def test_a_trial_moves_to_a_machine_with_no_disk_of_the_first_ones(
    tmp_path: Path, unbroken: dict[str, Any], trained: list[int], monkeypatch: pytest.MonkeyPatch
):
    """Each machine has a cache of its own, and sees neither the results folder nor the driver's images."""
    (tmp_path / "shared").mkdir()
    machines: list[Path] = []

    def elsewhere(task: TrialTask, tell: Report, beat: Heartbeat, **more: Any) -> None:
        machines.append(tmp_path / f"machine {len(machines)}")
        monkeypatch.setenv("HIRI_SEARCH_CACHE", str(machines[-1]))
        nowhere = Path("/nowhere")
        images = replace(task.prepared, folder=nowhere / task.prepared.folder.relative_to("/"))
        there = replace(task, checkpoint=nowhere / task.checkpoint.relative_to("/"), prepared=images)

        def on_event(event: dict[str, Any]) -> None:
            tell(event)
            if event["event"] == "epoch" and event["epoch"] == len(machines):
                raise Gone

        try:
            run_trial(there, on_event, beat, **more)
        except Gone:
            tell({"event": "lost", "trial": task.trial, "fault": "process", "reason": "gone"})

    done = _run(tmp_path, f"storage={tmp_path / 'shared'}", do=elsewhere)
    assert digits(done) == unbroken
    assert len(machines) > 3
    assert Counter(trained) == dict.fromkeys(range(1, 5), 2)
    assert not list((tmp_path / "results" / "checkpoints").iterdir())
    stored = {path.parent.name for path in (tmp_path / "shared" / "results" / "checkpoints").glob("*/last.pt")}
    assert stored == {Path(t.asked["checkpoint"]).parent.name for t in done}


def test_a_machine_without_the_data_stops_the_study_and_fails_no_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def elsewhere(task: TrialTask, tell: Report, beat: Heartbeat, **more: Any) -> None:
        job = replace(task.job, data=replace(task.job.data, source="folder:/nowhere", seed=0))
        images = replace(task.prepared, folder=Path("/nowhere/else"))
        run_trial(replace(task, job=job, prepared=images), tell, beat, **more)

    with pytest.raises(StudyError, match="there is no /nowhere"):
        _run(tmp_path, do=elsewhere)
    assert {t.state for t in trials(read_events(tmp_path / "results"))} == {"unfinished"}


def test_what_a_study_no_longer_wants_is_removed_there_too(tmp_path: Path):
    (tmp_path / "shared").mkdir()
    storage, checkpoints = f"storage={tmp_path / 'shared'}", tmp_path / "shared" / "results" / "checkpoints"
    _run(tmp_path, storage)
    assert len(list(checkpoints.iterdir())) == 2
    shutil.rmtree(tmp_path / "results" / "checkpoints")
    _run(tmp_path, storage, "checkpoints=none")
    assert not list(checkpoints.iterdir())


def test_a_storage_is_no_part_of_what_a_study_means(tmp_path: Path):
    (tmp_path / "study.yaml").write_text(STUDY)
    with_one = read_study(tmp_path / "study.yaml", sets=("storage=s3://bucket/studies",))
    assert canonical_form(with_one) == canonical_form(read_study(tmp_path / "study.yaml"))


# ---- a server that speaks S3


def test_killed_and_gone_on_with_nothing_but_a_bucket(tmp_path: Path, server: Server, unbroken: dict[str, Any]):
    (tmp_path / "study.yaml").write_text(STUDY + f"storage: s3://{BUCKET}/{tmp_path.name}\n")
    results = tmp_path / "results"
    given = [str(tmp_path / "study.yaml"), "--results", str(results), "--serial"]
    command = [sys.executable, "run_study.py", *given]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        while len(_epochs(results)) < 6:
            assert process.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
    told = _epochs(results)
    shutil.rmtree(results)
    with pytest.raises(SystemExit) as ended:
        main(["run", *given])
    assert ended.value.code == 0
    assert digits(trials(read_events(results))) == unbroken
    after = _epochs(results)
    assert {name: after[name] for name in told} == told, "an epoch that was told ran again"
    _holds_no_secret(results, tmp_path / "log")


def _epochs(results: Path) -> dict[tuple[int, int], float]:
    """How long each took, which no two share."""
    if not (results / LEDGER).exists():
        return {}
    events = [json.loads(line) for line in (results / LEDGER).read_bytes().split(b"\n")[:-1]]
    return {(e["trial"], e["epoch"]): e["seconds"] for e in events if e["event"] == "epoch"}


def _holds_no_secret(*places: Path) -> None:
    for place in places:
        for path in [place, *place.rglob("*")]:
            assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path


def test_a_server_that_is_away_for_seconds_costs_seconds_and_nothing_else(
    tmp_path: Path, server: Server, unbroken: dict[str, Any], trained: list[int]
):
    class Cutting(Quiet):
        def on_trial(self, trial: Trial) -> None:
            if len(trained) == 2 and not cut:
                cut.append(time.monotonic())
                server.end()
                Timer(3.0, server.begin).start()

    cut: list[float] = []
    done = _run(tmp_path, f"storage=s3://{BUCKET}/{tmp_path.name}", watcher=Cutting())
    assert time.monotonic() - cut[0] > 3
    assert digits(done) == unbroken
    assert len(trained) == 8
    assert not [event for event in read_events(tmp_path / "results") if event["event"] == "lost"]


# ---- secrets, and a home that cannot be written


@pytest.mark.parametrize("where", ["file", "set"])
def test_a_secret_in_the_url_is_refused_and_not_said(where: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    url = "s3://AKIAKEY:tHe/SeCrEt@bucket/studies"
    study = tmp_path / "study.yaml"
    study.write_text(STUDY + (f"storage: {url}\n" if where == "file" else ""))
    given = ["--set", f"storage={url}"] if where == "set" else []
    with pytest.raises(SystemExit) as ended:
        main(["run", str(study), "--results", str(tmp_path / "results"), *given])
    assert ended.value.code == 2
    said = "".join(capsys.readouterr())
    assert "s3://***@bucket/studies holds a name and password" in said
    assert "AWS_SECRET_ACCESS_KEY" in said
    assert "SeCrEt" not in said
    assert not (tmp_path / "results").exists()


@pytest.mark.slow
@pytest.mark.waits
def test_a_home_that_cannot_be_written_is_not_needed(tmp_path: Path):
    """Through Ray, as from the command line; in /proc not even root makes a folder."""
    (tmp_path / "study.yaml").write_text(STUDY.replace("epochs: 4", "epochs: 1, warmup_epochs: 0"))
    (tmp_path / "shared").mkdir()
    given = ["--results", str(tmp_path / "results"), "--set", f"storage={tmp_path / 'shared'}", "--slots", "1"]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "HIRI_", "RAY_", "MPL"))}
    found = subprocess.run(
        [sys.executable, "run_study.py", str(tmp_path / "study.yaml"), *given],
        cwd=ROOT,
        env=kept | {"HOME": "/proc", "RAY_worker_niceness": "0"},
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stdout + found.stderr
    assert {t.state for t in trials(read_events(tmp_path / "results"))} == {"finished"}
    assert (tmp_path / "shared" / "results" / "report" / "trials.csv").is_file()
