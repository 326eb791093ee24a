"""Studies with a storage: a run resumes on another machine from the storage alone, to the same digits."""

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
from hiri_search.study.dispatch.serial_dispatcher import run_serially
from hiri_search.study.dispatch.task import Heartbeat, Report, TrialTask
from hiri_search.study.errors import StudyError
from hiri_search.study.ledger.events import EpochEnded, TrialEvent, TrialLost
from hiri_search.study.ledger.layout import LEDGER
from hiri_search.study.ledger.ledger import of_kind, read_events, trials
from hiri_search.study.ledger.trial import Trial, reproduced
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
seeds: 1
"""
AnyTrialFunction = Callable[..., None]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return digits(_run(tmp_path_factory.mktemp("uninterrupted")))


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of the epochs that are trained."""
    numbers: list[int] = []
    epoch = loop._epoch

    def recorded(number: int, *arguments: Any) -> Any:
        numbers.append(number)
        return epoch(number, *arguments)

    monkeypatch.setattr(loop, "_epoch", recorded)
    return numbers


def _run(
    home: Path, *sets: str, function: AnyTrialFunction = run_trial, watcher: Quiet | None = None, text: str = STUDY
) -> list[Trial]:
    home.mkdir(exist_ok=True)
    (home / "study.yaml").write_text(text)
    study = read_study(home / "study.yaml", sets=sets)
    run(study, home / "results", partial(run_serially, trial_function=function), watcher or Quiet(), profile="none")
    return trials(read_events(home / "results"))


def digits(done: list[Trial]) -> dict[str, Any]:
    """Curve of each trial, by the name of its network."""
    return {t.network.name: reproduced(t.curve) for t in done}


# ---- one machine after the other


class MachineLost(BaseException):
    """Stands for the loss of a machine."""


@pytest.mark.parametrize("kind", ["path", "memory"])
def test_an_empty_folder_resumes_from_the_storage_alone(
    kind: str, tmp_path: Path, uninterrupted: dict[str, Any], trained: list[int]
):
    (tmp_path / "shared").mkdir()
    storage = f"storage={tmp_path / 'shared' if kind == 'path' else f'memory://{tmp_path.name}'}"

    def lost_after(last: int, task: TrialTask, report: Report, heartbeat: Heartbeat, **more: Any) -> None:
        def on_event(event: TrialEvent) -> None:
            report(event)
            if isinstance(event, EpochEnded) and (event.trial, event.result.epoch) == (1, last):
                raise MachineLost

        run_trial(task, on_event, heartbeat, **more)

    with pytest.raises(MachineLost):
        _run(tmp_path / "first", storage, function=partial(lost_after, 1))
    with pytest.raises(MachineLost):
        _run(tmp_path / "second", storage, function=partial(lost_after, 3))
    shutil.rmtree(tmp_path / "first")
    assert digits(_run(tmp_path / "third", storage)) == uninterrupted
    assert Counter(trained) == dict.fromkeys(range(1, 5), 2), "each epoch of both trials once"


def test_a_trial_moves_to_a_machine_that_shares_no_disk(
    tmp_path: Path, uninterrupted: dict[str, Any], trained: list[int], monkeypatch: pytest.MonkeyPatch
):
    """Each machine has its own cache, and sees neither the results folder nor the driver's images."""
    (tmp_path / "shared").mkdir()
    machines: list[Path] = []

    def on_another_machine(task: TrialTask, report: Report, heartbeat: Heartbeat, **more: Any) -> None:
        machines.append(tmp_path / f"machine {len(machines)}")
        monkeypatch.setenv("HIRI_SEARCH_CACHE", str(machines[-1]))
        nowhere = Path("/nowhere")
        images = replace(task.prepared, folder=nowhere / task.prepared.folder.relative_to("/"))
        folder = nowhere / task.files.folder.relative_to("/")
        moved = replace(task, files=replace(task.files, folder=folder, prepared={task.job.side: images}))

        def on_event(event: TrialEvent) -> None:
            report(event)
            if isinstance(event, EpochEnded) and event.result.epoch == len(machines):
                raise MachineLost

        try:
            run_trial(moved, on_event, heartbeat, **more)
        except MachineLost:
            report(TrialLost(trial=task.trial, fault="process", reason="machine lost"))

    done = _run(tmp_path, f"storage={tmp_path / 'shared'}", function=on_another_machine)
    assert digits(done) == uninterrupted
    assert len(machines) > 3
    assert Counter(trained) == dict.fromkeys(range(1, 5), 2)
    assert not list((tmp_path / "results" / "checkpoints").iterdir())
    stored = {path.parent.name for path in (tmp_path / "shared" / "results" / "checkpoints").glob("*/last.pt")}
    assert stored == {Path(t.asked.checkpoint).parent.name for t in done}


def test_a_machine_without_the_data_stops_the_study_and_fails_no_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def on_another_machine(task: TrialTask, report: Report, heartbeat: Heartbeat, **more: Any) -> None:
        job = replace(task.job, data=replace(task.job.data, source="folder:/nowhere", seed=0))
        images = replace(task.prepared, folder=Path("/nowhere/else"))
        files = replace(task.files, prepared={job.side: images})
        run_trial(replace(task, job=job, files=files), report, heartbeat, **more)

    with pytest.raises(StudyError, match="there is no /nowhere"):
        _run(tmp_path, function=on_another_machine)
    assert {t.state for t in trials(read_events(tmp_path / "results"))} == {"unfinished"}


def test_unneeded_checkpoints_are_removed_from_the_storage(tmp_path: Path):
    (tmp_path / "shared").mkdir()
    storage, checkpoints = f"storage={tmp_path / 'shared'}", tmp_path / "shared" / "results" / "checkpoints"
    _run(tmp_path, storage)
    assert len(list(checkpoints.iterdir())) == 2
    shutil.rmtree(tmp_path / "results" / "checkpoints")
    _run(tmp_path, storage, "checkpoints=none")
    assert not list(checkpoints.iterdir())


def test_the_storage_does_not_change_the_identity_of_a_study(tmp_path: Path):
    (tmp_path / "study.yaml").write_text(STUDY)
    with_storage = read_study(tmp_path / "study.yaml", sets=("storage=s3://bucket/studies",))
    assert canonical_form(with_storage) == canonical_form(read_study(tmp_path / "study.yaml"))


# ---- an S3 server


def test_a_killed_run_resumes_from_a_bucket_alone(tmp_path: Path, server: Server, uninterrupted: dict[str, Any]):
    (tmp_path / "study.yaml").write_text(STUDY + f"storage: s3://{BUCKET}/{tmp_path.name}\n")
    results = tmp_path / "results"
    arguments = [str(tmp_path / "study.yaml"), "--results", str(results), "--serial"]
    command = [sys.executable, "run_study.py", *arguments]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        while len(_epochs(results)) < 6:
            assert process.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
    reported = _epochs(results)
    shutil.rmtree(results)
    with pytest.raises(SystemExit) as end:
        main(["run", *arguments])
    assert end.value.code == 0
    assert digits(trials(read_events(results))) == uninterrupted
    after = _epochs(results)
    assert {name: after[name] for name in reported} == reported, "a reported epoch was trained again"
    _check_no_secret(results, tmp_path / "log")


def _epochs(results: Path) -> dict[tuple[int, int], float]:
    """Duration of each epoch, which is different for each."""
    events = of_kind(read_events(results) if (results / LEDGER).exists() else (), EpochEnded)
    return {(event.trial, event.result.epoch): event.result.seconds for event in events}


def _check_no_secret(*places: Path) -> None:
    for place in places:
        for path in [place, *place.rglob("*")]:
            assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path


def test_a_server_that_is_down_for_seconds_costs_only_seconds(
    tmp_path: Path, server: Server, uninterrupted: dict[str, Any], trained: list[int]
):
    class StopsServer(Quiet):
        def on_trial(self, trial: Trial) -> None:
            if len(trained) == 2 and not stopped:
                stopped.append(trial.number)
                server.end()
                Timer(3.0, restart).start()

    def restart() -> None:
        trained_meanwhile.append(len(trained) - 2)
        server.begin()

    stopped, trained_meanwhile = list[int](), list[int]()
    done = _run(tmp_path, f"storage=s3://{BUCKET}/{tmp_path.name}", watcher=StopsServer())
    assert trained_meanwhile in ([0], [1]), "the training waits for the server"
    assert digits(done) == uninterrupted
    assert len(trained) == 8
    assert not of_kind(read_events(tmp_path / "results"), TrialLost)


# ---- secrets, and a read-only home


@pytest.mark.parametrize("place", ["file", "set"])
def test_a_secret_in_the_url_is_an_error_that_does_not_show_it(
    place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    url = "s3://AKIAKEY:tHe/SeCrEt@bucket/studies"
    study = tmp_path / "study.yaml"
    study.write_text(STUDY + (f"storage: {url}\n" if place == "file" else ""))
    arguments = ["--set", f"storage={url}"] if place == "set" else []
    with pytest.raises(SystemExit) as end:
        main(["run", str(study), "--results", str(tmp_path / "results"), *arguments])
    assert end.value.code == 2
    output = "".join(capsys.readouterr())
    assert "s3://***@bucket/studies holds a name and password" in output
    assert "AWS_SECRET_ACCESS_KEY" in output
    assert "SeCrEt" not in output
    assert not (tmp_path / "results").exists()


@pytest.mark.slow
@pytest.mark.waits
def test_a_read_only_home_is_enough(tmp_path: Path):
    """Run the command line through Ray; not even root can write into /proc."""
    (tmp_path / "study.yaml").write_text(STUDY.replace("epochs: 4", "epochs: 1, warmup_epochs: 0"))
    (tmp_path / "shared").mkdir()
    arguments = ["--results", str(tmp_path / "results"), "--set", f"storage={tmp_path / 'shared'}", "--slots", "1"]
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "HIRI_", "RAY_", "MPL"))
    }
    completed = subprocess.run(
        [sys.executable, "run_study.py", str(tmp_path / "study.yaml"), *arguments],
        cwd=ROOT,
        env=environment | {"HOME": "/proc"},
        capture_output=True,
        text=True,
    )
    assert completed.returncode == 0, completed.stdout + completed.stderr
    assert {t.state for t in trials(read_events(tmp_path / "results"))} == {"finished"}
    assert (tmp_path / "shared" / "results" / "report" / "trials.csv").is_file()
