"""Loggers: each tool shows the trials of the ledger, one run a trial, each epoch once and in order."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hiri_search.cli.main import main
from hiri_search.study.config.read import read_study
from hiri_search.study.config.schema import StudyConfig
from hiri_search.study.config.sections.loggers import LogConfig, MlflowConfig, TensorboardConfig, WandbConfig
from hiri_search.study.dispatch.serial_dispatcher import run_serially
from hiri_search.study.dispatch.task import TrialSource
from hiri_search.study.errors import StudyError
from hiri_search.study.ledger.events import EpochEnded, Event, TrialFailed, TrialFinished, TrialRetried, TrialScored
from hiri_search.study.ledger.ledger import read_events
from hiri_search.study.loggers import write
from hiri_search.study.loggers.mlflow_logger import MlflowLogger
from hiri_search.study.loggers.run_record import RunRecords
from hiri_search.study.loggers.tensorboard_logger import TensorboardLogger
from hiri_search.study.loggers.write import open_loggers, write_runs
from hiri_search.study.run import run
from tests.own_code import own_kinds
from tests.study.loggers.shown import (
    free_port,
    in_ledger,
    in_mlflow,
    in_tensorboard,
    in_wandb,
    mlflow_server,
)
from tests.study.records import asked, epoch, study_started, write_ledger
from tests.study.search.searches import Listener
from tests.study.waiting import wait_until

pytestmark = pytest.mark.waits  # for the server of MLflow
ROOT = Path(__file__).parents[3]
CODE = """
from pathlib import Path

def fails_once(trial, spec, seed, epoch):
    flag = Path("FLAG")
    if trial == 1 and epoch.epoch == 2 and not flag.exists():
        flag.touch()
        raise OSError("no space left")
"""
STUDY = """
imports: [my_hooks.py]
callbacks: {on_epoch: my_hooks:fails_once}
nets:
  small: hr(32 e=4) -> hr(64 e=4)
  other: hr(32 e=4) -> cffn(64 e=4)
counted: {side: 64, classes: 10}
proxy: {width: 4, side: 32, classes: 4}
data: {source: drawn, train: 32, val: 16}
recipe: {epochs: 3, batch: 16, ema: 0.0, warmup_epochs: 0}
seeds: 1
"""
ALL = "log=[tensorboard, mlflow, {wandb: {mode: offline}}]"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with mlflow_server(tmp_path_factory.mktemp("mlflow")) as uri:
        yield uri


@pytest.fixture
def results(tmp_path: Path) -> Iterator[Path]:
    """The results folder of the study, whose name no other test has."""
    (tmp_path / "my_hooks.py").write_text(CODE.replace("FLAG", str(tmp_path / "failed")))
    (tmp_path / "study.yaml").write_text(STUDY)
    with own_kinds():
        yield tmp_path / f"of_{tmp_path.name}"


def _run(results: Path, *sets: str, dispatch: object = run_serially, retry_failed: bool = False) -> list[str]:
    listener, study = Listener(), read_study(results.parent / "study.yaml", sets=sets)
    run(study, results, dispatch, listener, profile="none", retry_failed=retry_failed)  # type: ignore[arg-type]
    return listener.said


class Killed(BaseException):
    pass


def _killed_at_the_second_epoch(source: TrialSource) -> None:
    on_event = source.on_event

    def report(event: Event) -> None:
        on_event(event)  # type: ignore[arg-type]
        if isinstance(event, EpochEnded) and event.result.epoch == 2:
            raise Killed

    source.on_event = report  # type: ignore[method-assign]
    run_serially(source)


def test_a_study_that_was_killed_and_retried_is_one_run_a_trial_in_each_tool(
    results: Path, server: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    with pytest.raises(Killed):
        _run(results, ALL, dispatch=_killed_at_the_second_epoch)
    states = [["unfinished"], ["finished", "failed"], ["finished", "finished"]]
    for number, expected in enumerate(states):
        if number:
            assert [text for text in _run(results, ALL, retry_failed=number == 2) if "written" in text] == []
        shown = in_ledger(results)
        assert [each.state for each in shown] == expected
        assert in_tensorboard(results) == shown
        assert in_mlflow(server, results.name) == shown
        assert in_wandb(results) == shown


def test_a_server_that_is_dead_is_said_once_and_the_runs_are_written_later(
    results: Path, server: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    said = [text for text in _run(results, "log=mlflow", "callbacks.on_epoch=[]") if "MLflow" in text]
    assert len(said) == 2
    assert said[0].startswith("MLflow cannot be written, and the study goes on: ")
    assert said[1] == f"MLflow lacks 2 runs; `hiri-search log {results}` writes them"
    assert _log(results) == 2
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    assert _log(results) == 0
    assert _log(results, "--to", "tensorboard") == 0
    assert _log(results, "--to", "tensorbord") == 2
    shown = in_ledger(results)
    assert [each.state for each in shown] == ["finished", "finished"]
    assert in_mlflow(server, results.name) == shown == in_tensorboard(results)


def _log(results: Path, *options: str) -> object:
    """Call `hiri-search log`; return its exit code."""
    with pytest.raises(SystemExit) as ended:
        main(["log", str(results), *options])
    return ended.value.code


EVENTS = (
    replace(study_started(), time=99.5),
    replace(asked(0), time=100.0),
    TrialScored(trial=0, scores={"zen": 1.5, "synflow": None}, time=100.5),
    *(EpochEnded(trial=0, result=epoch(n, 40.0 + n), time=100.0 + n) for n in (1, 2)),
)
ENDS = {
    "nothing more": (),
    "an epoch more": (EpochEnded(trial=0, result=epoch(3, 50.0), time=103.0),),
    "a failure": (TrialFailed(trial=0, reason="no images", time=104.0),),
    "a failure and a retry": (TrialFailed(trial=0, reason="lost", time=104.0), TrialRetried(trial=0, time=105.0)),
    "other digits": (TrialFinished(trial=0, curve=(epoch(1, 41.0), epoch(2, 42.5), epoch(3, 43.0)), time=104.0),),
}


def _ledger(folder: Path, *events: Event) -> Path:
    folder.mkdir(exist_ok=True)
    write_ledger(folder, (*EVENTS, *events))
    return folder


@pytest.mark.parametrize("first", ENDS)
@pytest.mark.parametrize("second", ENDS)
def test_a_file_of_tensorboard_follows_from_the_ledger_alone(tmp_path: Path, first: str, second: str):
    logger = TensorboardLogger(tmp_path / "again")
    for end in (first, second):
        write_runs([logger], _ledger(tmp_path / "a", *ENDS[end]), print)
        (file,) = (tmp_path / "again").rglob("events*")
        file.write_bytes(file.read_bytes()[:-5])  # a torn end
    write_runs([logger], tmp_path / "a", print)
    write_runs([TensorboardLogger(tmp_path / "once")], tmp_path / "a", print)
    (whole,) = (tmp_path / "once").rglob("events*")
    assert file.read_bytes() == whole.read_bytes()
    assert file.relative_to(tmp_path / "again") == whole.relative_to(tmp_path / "once")


@pytest.mark.parametrize("same", [True, False])  # the same process: events of a trial may follow its end
def test_a_run_of_mlflow_is_continued_or_written_anew_where_its_values_are_others(
    tmp_path: Path, server: str, same: bool
):
    folder = tmp_path / f"of_{tmp_path.name}"
    logger = MlflowLogger(MlflowConfig(server), folder.name)
    for end in (*ENDS, *reversed(ENDS)):
        _ledger(folder, *ENDS[end])
        write_runs([logger if same else MlflowLogger(MlflowConfig(server), folder.name)], folder, print)
        assert in_mlflow(server, folder.name) == in_ledger(folder)


def test_a_run_has_recipe_costs_and_decisions_as_parameters_and_a_zero_cost_score_at_step_0():
    started = study_started(StudyConfig.model_validate({"space": "hr(8 e=2|4)", "recipe": {"lr": 0.003, "epochs": 5}}))
    trial = replace(asked(0, decisions={"1.e": 4}, confirms=3, confirm_epochs=20), time=1.0)
    record = RunRecords("name", [started, trial, *EVENTS[2:]], active=True).snapshot(0)
    wanted = {"lr": 0.003, "epochs": 20, "1.e": 4, "gflops": 0.002, "params": 1000, "confirms": 3, "trained_side": 32}
    assert wanted.items() <= record.parameters.items()
    points = [(point.step, point.time, point.values.get("top1")) for point in record.curve]
    assert points == [(0, 1.0, None), (1, 101.0, 41.0), (2, 102.0, 42.0)]
    assert next(record.curve).values == {"zero_cost_zen": 1.5}


FORMS = {
    "mlflow": LogConfig(mlflow=MlflowConfig()),
    "[tensorboard, wandb]": LogConfig(tensorboard=TensorboardConfig(), wandb=WandbConfig()),
    "[tensorboard, {mlflow: {uri: http://host}}]": LogConfig(TensorboardConfig(), MlflowConfig("http://host")),
    "{mlflow: , wandb: {mode: offline}, tensorboard: false}": LogConfig(
        mlflow=MlflowConfig(), wandb=WandbConfig(mode="offline")
    ),
    "null": LogConfig(),
}


@pytest.mark.parametrize("text", FORMS)
def test_loggers_are_written_as_a_name_a_list_or_a_mapping(tmp_path: Path, text: str):
    (tmp_path / "study.yaml").write_text(f"nets: {{one: hr(8 e=4)}}\nlog: {text}\n")
    study = read_study(tmp_path / "study.yaml")
    assert study.log == FORMS[text]
    assert StudyConfig.model_validate(study.model_dump(mode="json")) == study, "as the ledger records it"


MISTAKES = {
    "tensorbord": r"study.yaml:2: log.tensorbord is not known; did you mean tensorboard\?$",
    "{mlflow: {url: http://host}}": r"study.yaml:2: log.mlflow.url is not known; did you mean uri\?$",
    "{wandb: {mode: on}}": r"study.yaml:2: log.wandb.mode",
    "{mlflow: {uri: 'http://me:secret@host'}}": r"http://\*\*\*@host holds a name and password; remove it",
    "3": r"study.yaml:2: log",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_is_named_with_its_line(tmp_path: Path, text: str):
    (tmp_path / "study.yaml").write_text(f"nets: {{one: hr(8 e=4)}}\nlog: {text}\n")
    with pytest.raises(StudyError, match=MISTAKES[text]):
        read_study(tmp_path / "study.yaml")


@pytest.mark.parametrize("package", ["tensorboard", "mlflow", "wandb"])
def test_a_missing_package_is_one_error_before_anything_is_trained(
    results: Path, package: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(StudyError, match=rf"log: {package} is not installed: pip install 'hiri-search\[{package}\]'"):
        _run(results, f"log={package}")
    assert not results.exists()


def test_wandb_without_a_key_is_one_error_and_not_a_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HOME", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with pytest.raises(StudyError, match="there is no API key: run `wandb login`, set WANDB_API_KEY, or write log"):
        open_loggers(LogConfig(wandb=WandbConfig()), tmp_path)


def test_a_setting_of_a_calibration_is_named_with_its_calibration(tmp_path: Path):
    assert write.study_name(tmp_path / "a" / "short") == "short"
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "calibration.json").touch()
    assert write.study_name(tmp_path / "a" / "short") == "a.short"


@pytest.mark.slow
def test_a_study_on_ray_whose_process_was_killed_is_one_run_a_trial(
    results: Path, server: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    study = str(results.parent / "study.yaml")
    sets = ["--set", ALL, "--set", "recipe.epochs=12"]
    command = [sys.executable, "run_study.py", study, "--results", str(results), "--slots", "2", *sets]
    process = subprocess.Popen(command, cwd=ROOT, start_new_session=True, stdout=subprocess.DEVNULL)
    wait_until(lambda: _epochs(results) > 6, alive=lambda: process.poll() is None)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for _ in range(2):  # a trial fails in one of the first two runs
        last = subprocess.run([*command, "--retry-failed"], cwd=ROOT, stdout=subprocess.DEVNULL, check=False)
    assert last.returncode == 0
    shown = in_ledger(results)
    assert [(each.state, len(each.curve)) for each in shown] == [("finished", 12), ("finished", 12)]
    assert in_tensorboard(results) == shown == in_mlflow(server, results.name) == in_wandb(results)


def _epochs(results: Path) -> int:
    try:
        return sum(isinstance(event, EpochEnded) for event in read_events(results))
    except StudyError:
        return 0
