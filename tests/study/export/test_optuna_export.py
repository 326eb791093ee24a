"""Export to Optuna: into a journal file, into databases, and as the dashboard shows it."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import many
import optuna
import pytest
from optuna.storages import JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from hiri_search.cli.main import main
from hiri_search.study.errors import StudyError
from hiri_search.study.export import optuna_export
from hiri_search.study.export.optuna_export import JOURNAL, LEDGER_ATTRIBUTE, Export, in_database, read_export, to_file
from hiri_search.study.ledger.events import RunEnded, TrialAsked, TrialEvent, TrialFailed, TrialFinished
from hiri_search.study.ledger.layout import LEDGER
from hiri_search.study.ledger.ledger import of_kind, read_events, trials
from tests.study.records import append
from tests.study.waiting import wait_until

POSTGRES = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)
PASSWORD = "5ecret%2F"  # percent-encoded
TRIALS = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return many.write(many.search(TRIALS), tmp_path_factory.mktemp("mine"), TRIALS)


@pytest.fixture(scope="module")
def export(folder: Path) -> Export:
    return read_export(folder, name="mine")


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """URL of a PostgreSQL server that the fixture starts on a Unix socket."""
    if POSTGRES is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    pytest.importorskip("psycopg", reason='psycopg is not installed: pip install "hiri-search[postgres]"')
    user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name  # initdb refuses to run as root
    home = Path(tempfile.mkdtemp(prefix="pg"))
    shutil.chown(home, user)
    password_file = home / "password"
    password_file.write_text(PASSWORD.replace("%2F", "/"))
    shutil.chown(password_file, user)
    options = ["--auth=scram-sha-256", "--username=hiri", f"--pwfile={password_file}", "--no-sync"]
    initdb = [f"{POSTGRES}/initdb", "--pgdata", f"{home}/data", *options]
    subprocess.run(initdb, user=user, cwd="/", check=True, stdout=subprocess.DEVNULL)
    settings = ["listen_addresses=", f"unix_socket_directories={home}", "fsync=off"]
    command = [
        f"{POSTGRES}/postgres",
        "-D",
        f"{home}/data",
        *(word for setting in settings for word in ("-c", setting)),
    ]
    with subprocess.Popen(command, user=user, cwd=home, stderr=subprocess.DEVNULL) as server:
        try:
            url = f"postgresql+psycopg://hiri:{PASSWORD}@/postgres?host={home}"
            wait_until(lambda: _connects(url))
            yield url
        finally:
            server.send_signal(signal.SIGINT)
            server.wait()
            shutil.rmtree(home)


def _connects(url: str) -> bool:
    """Return true if the server accepts a connection: its socket exists earlier."""
    import psycopg

    with suppress(psycopg.OperationalError):
        psycopg.connect(url.replace("+psycopg", "")).close()
        return True
    return False


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/optuna.db"
    return str(request.getfixturevalue("postgres"))


def _facts(trial: FrozenTrial) -> dict[str, Any]:
    """All attributes of a trial in Optuna, without its number and id."""
    names = ("state", "values", "params", "distributions", "user_attrs", "intermediate_values")
    return {name: getattr(trial, name) for name in (*names, "datetime_start", "datetime_complete")}


def _load(storage: optuna.storages.BaseStorage, name: str) -> list[FrozenTrial]:
    return optuna.load_study(study_name=name, storage=storage).trials


def _reload(export: Export, url: str, say: Callable[[str], None] = print) -> list[FrozenTrial]:
    """Export to a database, and load the trials with Optuna."""
    with in_database(export, url, say) as storage:
        return _load(storage, export.name)


@contextmanager
def _opened(url: str) -> Iterator[RDBStorage]:
    """Open a database with Optuna only."""
    storage = RDBStorage(url)
    yield storage
    storage.remove_session()
    storage.engine.dispose()


# ---- exported trials


def test_trials_keep_state_curve_values_and_decisions(folder: Path, export: Export):
    exported = [(trial.state, trial.intermediate_values, trial.user_attrs["spec"]) for trial in export.trials]
    states = {"finished": TrialState.COMPLETE, "failed": TrialState.FAIL}
    past = trials(read_events(folder))
    assert exported == [
        (states[t.state], {epoch.epoch: epoch.scores["top1"] for epoch in t.curve}, t.network.spec) for t in past
    ]
    first = export.trials[0]
    assert first.values == [past[0].curve[-1].scores["top1"], past[0].network.macs / 1e9]
    for stage, width in zip(past[0].network.spec.split(" -> "), ("1.w", "2.w", "3.w", "4.w", "5.w"), strict=True):
        assert f"({first.params[width]} " in stage, "numbers are those of the network"
    assert export.trials[9].user_attrs["reason"] == past[9].reason


def test_start_and_end_of_a_trial_are_the_times_of_its_events(folder: Path, export: Export):
    times = {(type(event), event.trial): event.time for event in of_kind(read_events(folder), TrialEvent)}
    for number, trial in enumerate(export.trials):
        end = times[TrialFailed if number == 9 else TrialFinished, number]
        assert trial.datetime_start
        assert trial.datetime_start.timestamp() == times[TrialAsked, number]
        assert trial.datetime_complete
        assert trial.datetime_complete.timestamp() == end


def test_an_ablation_of_many_rows_exports_row_numbers_instead_of_names(tmp_path: Path):
    few, large = (read_export(many.write(many.ablation(n, 1), tmp_path / str(n), 2)) for n in (3, 120))
    assert [trial.params for trial in few.trials] == [{"net": "row 0"}, {"net": "row 1"}]
    assert [trial.params for trial in large.trials] == [{"net": 0}, {"net": 1}]


def test_a_journal_file_holds_the_exported_trials_and_no_temporary_file_stays(export: Export, tmp_path: Path):
    to_file(export, tmp_path / JOURNAL)
    loaded = _load(JournalStorage(JournalFileBackend(str(tmp_path / JOURNAL))), "mine")
    assert list(map(_facts, loaded)) == list(map(_facts, export.trials))
    assert [path.name for path in tmp_path.iterdir()] == [JOURNAL]


def test_a_database_holds_the_exported_trials(export: Export, url: str):
    loaded = _reload(export, url)
    assert list(map(_facts, loaded)) == list(map(_facts, export.trials))
    assert [trial.number for trial in loaded] == list(range(TRIALS))


def test_a_long_export_into_a_database_says_its_progress(
    export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    messages: list[str] = []
    monkeypatch.setattr(optuna_export, "PROGRESS_TRIALS", 5)
    for _ in range(2):
        loaded = _reload(export, f"sqlite:///{tmp_path}/optuna.db", messages.append)
    assert list(map(_facts, loaded)) == list(map(_facts, export.trials))
    assert messages == 2 * ["exported 5 of 12 trials", "exported 10 of 12 trials"]


# ---- a second export


def test_a_second_export_replaces_the_first_and_leaves_other_studies(folder: Path, export: Export, url: str):
    with _opened(url) as storage:
        foreign = optuna.create_study(study_name="foreign", storage=storage)
        foreign.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
        foreign.set_user_attr("note", "precious")
        foreign_trials = list(map(_facts, foreign.trials))
    _reload(replace(export, trials=export.trials[:4]), url)
    _reload(export, url)
    loaded = _reload(replace(export, name="renamed"), url)
    assert len(loaded) == TRIALS
    with _opened(url) as storage:
        names = {study.study_name: study.user_attrs for study in storage.get_all_studies()}
        assert names == {"foreign": {"note": "precious"}, "renamed": {LEDGER_ATTRIBUTE: export.ledger_id}}
        assert list(map(_facts, _load(storage, "foreign"))) == foreign_trials


def test_a_study_of_the_same_name_from_elsewhere_is_an_error_and_stays(export: Export, tmp_path: Path):
    url = f"sqlite:///{tmp_path}/optuna.db"
    with _opened(url) as storage:
        optuna.create_study(study_name="mine", storage=storage)
        with pytest.raises(
            StudyError, match="holds a study mine, which is not from this ledger; give this export another"
        ):
            _reload(export, url)
        assert [study.user_attrs for study in storage.get_all_studies()] == [{}]


def test_a_moved_and_longer_ledger_keeps_its_id(folder: Path, export: Export, tmp_path: Path):
    shutil.copytree(folder, tmp_path / "copy")
    append(tmp_path / "copy", RunEnded(seconds={}))
    assert read_export(tmp_path / "copy").ledger_id == export.ledger_id
    assert read_export(many.write(many.search(3), tmp_path / "other", 3)).ledger_id != export.ledger_id


# ---- passwords and mistakes

WRONG_PASSWORD = "hunter2"
MISTAKES = {
    "no server": (f"postgresql+psycopg://me:{WRONG_PASSWORD}@127.0.0.1:1/o", "127.0.0.1:1/o cannot be used: "),
    "in the query": (
        f"postgresql+psycopg://me@127.0.0.1:1/o?password={WRONG_PASSWORD}",
        r"127.0.0.1:1/o\?\*\*\* cannot be used: ",
    ),
    "no driver": (
        f"mysql+pymysql://me:{WRONG_PASSWORD}@127.0.0.1/o",
        r"the Python package for mysql\+pymysql is not installed",
    ),
    "unknown dialect": (f"nonsense+{WRONG_PASSWORD}://", "cannot be used|expected the URL"),
    "no URL": (f"me {WRONG_PASSWORD}", "expected the URL of a database, such as postgresql"),
    "no port": (f"postgresql+psycopg://me:{WRONG_PASSWORD}@host:port/o", "expected the URL of a database"),
    "no folder": ("sqlite:////nowhere/at/all.db", "cannot be used: .*unable to open"),
}


@pytest.mark.parametrize(("url", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_database_error_does_not_show_the_password(
    url: str, message: str, folder: Path, capfd: pytest.CaptureFixture[str]
):
    with pytest.raises(StudyError, match=message):
        _reload(read_export(folder), url)
    with pytest.raises(SystemExit) as end:
        main(["dashboard", str(folder), "--storage", url])
    captured = capfd.readouterr()
    assert end.value.code == 2
    assert captured.err.startswith("error: ")
    if not url.startswith("nonsense"):
        assert WRONG_PASSWORD not in captured.out + captured.err


def test_a_password_is_neither_printed_nor_stored(folder: Path, postgres: str, capfd: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as end:
        main(["dashboard", str(folder), "--storage", postgres, "--name", "private"])
    captured = capfd.readouterr()
    assert (end.value.code, captured.err) == (0, "")
    assert f"wrote {TRIALS} trials as private into the database" in captured.out
    assert "5ecret" not in captured.out
    assert not any(b"5ecret" in path.read_bytes() for path in folder.rglob("*") if path.is_file())
    with _opened(postgres) as storage:
        (stored,) = (study for study in storage.get_all_studies() if study.study_name == "private")
    assert "5ecret" not in str(stored.user_attrs) + str(stored.system_attrs)


# ---- the dashboard


def _get_json(address: str, path: str) -> Any:
    with urlopen(f"{address}{path}", timeout=30) as response:
        return json.load(response)


def _shown(address: str) -> list[dict[str, Any]]:
    """Trials of the study `served`, from the dashboard's HTTP API."""
    with urlopen(address, timeout=30) as page:
        assert b"<html" in page.read()[:300].lower()
    (study,) = (s for s in _get_json(address, "api/studies")["study_summaries"] if s["study_name"] == "served")
    trials: list[dict[str, Any]] = _get_json(address, f"api/studies/{study['study_id']}?after=0")["trials"]
    return trials


def _check_shown(shown: list[dict[str, Any]], export: Export) -> None:
    assert [trial["number"] for trial in shown] == list(range(TRIALS))
    for trial, expected in zip(shown, export.trials, strict=True):
        assert trial["state"].lower() == expected.state.name.lower()
        assert trial.get("values") == expected.values
        assert {p["name"]: p["param_external_value"] for p in trial["params"]} == {
            name: str(value) for name, value in expected.params.items()
        }


@contextmanager
def _serving(*command: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Run a command that serves the dashboard on a free port; the address and the process."""
    port = _free_port()
    address = f"http://127.0.0.1:{port}/"
    with subprocess.Popen([sys.executable, *command, "--port", str(port)], preexec_fn=_reset_sigint) as dashboard:
        try:
            wait_until(lambda: _answers(address), alive=lambda: dashboard.poll() is None)
            yield address, dashboard
        finally:
            dashboard.kill()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def _answers(address: str) -> bool:
    with suppress(URLError):
        urlopen(address, timeout=30).close()
        return True
    return False


def _reset_sigint() -> None:
    """Undo an ignored SIGINT: a shell sets it for background jobs, and child processes inherit it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _interrupt(dashboard: subprocess.Popen[bytes]) -> int:
    """Send Ctrl-C until the process ends, and return its exit code: wsgiref ignores a Ctrl-C during a request."""
    for _ in range(3):
        dashboard.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            return dashboard.wait(timeout=10)
    raise AssertionError("the dashboard ignores Ctrl-C")


@pytest.mark.parametrize(
    "place", ["file", *(pytest.param(place, marks=pytest.mark.slow) for place in ("sqlite", "postgres"))]
)
def test_the_dashboard_shows_the_study_until_ctrl_c(
    place: str, folder: Path, export: Export, tmp_path: Path, request: pytest.FixtureRequest
):
    databases = {"file": lambda: None, "sqlite": lambda: f"sqlite:///{tmp_path}/optuna.db"}
    url = databases.get(place, lambda: request.getfixturevalue("postgres"))()
    command = ["dashboard", str(folder), "--name", "served", "--serve", *(["--storage", url] if url else [])]
    with _serving("-c", "from hiri_search.cli.main import main; main()", *command) as (address, dashboard):
        _check_shown(_shown(address), export)
        assert _interrupt(dashboard) == 0


def test_a_port_in_use_is_one_error_before_anything_is_written(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    (tmp_path / LEDGER).write_bytes((folder / LEDGER).read_bytes())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SystemExit) as end:
            main(["dashboard", str(tmp_path), "--serve", "--port", str(port)])
    assert end.value.code == 2
    assert capfd.readouterr().err == f"error: --port {port}: Address already in use; give another port\n"
    assert [path.name for path in tmp_path.iterdir()] == [LEDGER]


def test_the_command_optuna_dashboard_opens_the_journal_file(export: Export, tmp_path: Path):
    to_file(replace(export, name="served"), tmp_path / JOURNAL)
    with _serving("-m", "optuna_dashboard._cli", str(tmp_path / JOURNAL)) as (address, _):
        _check_shown(_shown(address), export)
