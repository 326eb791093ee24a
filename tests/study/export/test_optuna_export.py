"""The export for Optuna's dashboard: into a file, into databases, and what the dashboard then shows."""

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
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
from hiri_search.study.export.optuna_export import JOURNAL, MARK, Export, in_database, read_export, to_file
from hiri_search.study.ledger.layout import LEDGER
from hiri_search.study.ledger.ledger import read_events, trials

POSTGRES = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)
SECRET = "5ecret%2F"  # as a URL writes it
TRIALS = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return many.write(many.search(TRIALS), tmp_path_factory.mktemp("mine"), TRIALS)


@pytest.fixture(scope="module")
def found(folder: Path) -> Export:
    return read_export(folder, name="mine")


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """The URL of a real one, which this starts on a socket of its own."""
    if POSTGRES is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    pytest.importorskip("psycopg", reason='psycopg is not installed: pip install "hiri-search[postgres]"')
    user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name  # it refuses to run as root
    home = Path(tempfile.mkdtemp(prefix="pg"))
    shutil.chown(home, user)
    word = home / "password"
    word.write_text(SECRET.replace("%2F", "/"))
    shutil.chown(word, user)
    how = ["--auth=scram-sha-256", "--username=hiri", f"--pwfile={word}", "--no-sync"]
    _quietly([f"{POSTGRES}/initdb", "--pgdata", f"{home}/data", *how], user)
    settings = ["listen_addresses=", f"unix_socket_directories={home}", "fsync=off"]
    command = [f"{POSTGRES}/postgres", "-D", f"{home}/data", *(word for each in settings for word in ("-c", each))]
    with subprocess.Popen(command, user=user, cwd=home, stderr=subprocess.DEVNULL) as server:
        try:
            where = f"postgresql+psycopg://hiri:{SECRET}@/postgres?host={home}"
            _wait(where)
            yield where
        finally:
            server.send_signal(signal.SIGINT)
            server.wait()
            shutil.rmtree(home)


def _quietly(command: list[str], user: str) -> None:
    subprocess.run(command, user=user, cwd="/", check=True, stdout=subprocess.DEVNULL)


def _wait(server: str) -> None:
    """Its socket is there before it takes anybody in."""
    import psycopg

    end = time.monotonic() + 60
    while True:
        try:
            psycopg.connect(server.replace("+psycopg", "")).close()
            return
        except psycopg.OperationalError:
            assert time.monotonic() < end, "the database did not start"
        time.sleep(0.05)


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of a database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/optuna.db"
    return str(request.getfixturevalue("postgres"))


def _facts(trial: FrozenTrial) -> dict[str, Any]:
    """All that Optuna knows of a trial but its numbers."""
    names = ("state", "values", "params", "distributions", "user_attrs", "intermediate_values")
    return {name: getattr(trial, name) for name in (*names, "datetime_start", "datetime_complete")}


def _load(storage: optuna.storages.BaseStorage, name: str) -> list[FrozenTrial]:
    return optuna.load_study(study_name=name, storage=storage).trials


def _in(found: Export, url: str, say: Callable[[str], None] = print) -> list[FrozenTrial]:
    """Export; what Optuna then loads."""
    with in_database(found, url, say) as storage:
        return _load(storage, found.name)


@contextmanager
def _opened(url: str) -> Iterator[RDBStorage]:
    """By Optuna alone."""
    storage = RDBStorage(url)
    yield storage
    storage.remove_session()
    storage.engine.dispose()


# ---- what is exported


def test_trials_are_told_as_they_were(folder: Path, found: Export):
    told = [(trial.state, trial.intermediate_values, trial.user_attrs["spec"]) for trial in found.trials]
    states = {"finished": TrialState.COMPLETE, "failed": TrialState.FAIL}
    known = trials(read_events(folder))
    assert told == [(states[t.state], {e["epoch"]: e["top1"] for e in t.curve}, t.asked["spec"]) for t in known]
    first = found.trials[0]
    assert first.values == [known[0].curve[-1]["top1"], known[0].asked["macs"] / 1e9]
    for stage, width in zip(known[0].asked["spec"].split(" -> "), ("1.w", "2.w", "3.w", "4.w", "5.w"), strict=True):
        assert f"({first.params[width]} " in stage, "numbers are those of the network"
    assert found.trials[9].user_attrs["reason"] == known[9].reason


def test_it_was_trained_when_its_lines_were_written(folder: Path, found: Export):
    times = {(e["event"], e.get("trial")): e["time"] for e in read_events(folder, timed=True)}
    for number, trial in enumerate(found.trials):
        end = times["failed" if number == 9 else "finished", number]
        assert trial.datetime_start
        assert trial.datetime_start.timestamp() == times["asked", number]
        assert trial.datetime_complete
        assert trial.datetime_complete.timestamp() == end


def test_an_ablation_of_many_rows_does_not_write_all_their_names_with_each_trial(tmp_path: Path):
    few, large = (read_export(many.write(many.ablation(n, 1), tmp_path / str(n), 2)) for n in (3, 120))
    assert [trial.params for trial in few.trials] == [{"net": "row 0"}, {"net": "row 1"}]
    assert [trial.params for trial in large.trials] == [{"net": 0}, {"net": 1}]


def test_a_file_holds_what_was_exported_and_no_rest_of_its_making(found: Export, tmp_path: Path):
    to_file(found, tmp_path / JOURNAL)
    held = _load(JournalStorage(JournalFileBackend(str(tmp_path / JOURNAL))), "mine")
    assert list(map(_facts, held)) == list(map(_facts, found.trials))
    assert [path.name for path in tmp_path.iterdir()] == [JOURNAL]


def test_a_database_holds_what_was_exported(found: Export, url: str):
    held = _in(found, url)
    assert list(map(_facts, held)) == list(map(_facts, found.trials))
    assert [trial.number for trial in held] == list(range(TRIALS))


def test_a_long_export_into_a_database_says_its_progress(
    found: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    said: list[str] = []
    monkeypatch.setattr(optuna_export, "PROGRESS_TRIALS", 5)
    for _ in range(2):
        held = _in(found, f"sqlite:///{tmp_path}/optuna.db", said.append)
    assert list(map(_facts, held)) == list(map(_facts, found.trials))
    assert said == 2 * ["exported 5 of 12 trials", "exported 10 of 12 trials"]


# ---- exported again


def test_again_it_takes_the_place_of_what_was_there_and_of_nothing_else(folder: Path, found: Export, url: str):
    with _opened(url) as storage:
        theirs = optuna.create_study(study_name="theirs", storage=storage)
        theirs.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
        theirs.set_user_attr("note", "precious")
        before = list(map(_facts, theirs.trials))
    _in(replace(found, trials=found.trials[:4]), url)
    _in(found, url)
    held = _in(replace(found, name="renamed"), url)
    assert len(held) == TRIALS
    with _opened(url) as storage:
        names = {study.study_name: study.user_attrs for study in storage.get_all_studies()}
        assert names == {"theirs": {"note": "precious"}, "renamed": {MARK: found.mark}}
        assert list(map(_facts, _load(storage, "theirs"))) == before


def test_a_study_of_the_same_name_that_is_not_of_this_ledger_stays(found: Export, tmp_path: Path):
    url = f"sqlite:///{tmp_path}/optuna.db"
    with _opened(url) as storage:
        optuna.create_study(study_name="mine", storage=storage)
        with pytest.raises(StudyError, match="holds a study mine that is not of this ledger; give this one another"):
            _in(found, url)
        assert [study.user_attrs for study in storage.get_all_studies()] == [{}]


def test_a_ledger_is_known_wherever_it_lies_and_however_long_it_grew(folder: Path, found: Export, tmp_path: Path):
    shutil.copytree(folder, tmp_path / "copy")
    with (tmp_path / "copy" / LEDGER).open("a") as file:
        file.write(json.dumps({"event": "ended", "seconds": {}}) + "\n")
    assert read_export(tmp_path / "copy").mark == found.mark
    assert read_export(many.write(many.search(3), tmp_path / "other", 3)).mark != found.mark


# ---- passwords and mistakes

WORD = "hunter2"
MISTAKES = {
    "nobody there": (f"postgresql+psycopg://me:{WORD}@127.0.0.1:1/o", "127.0.0.1:1/o cannot be used: "),
    "in the query": (f"postgresql+psycopg://me@127.0.0.1:1/o?password={WORD}", "127.0.0.1:1/o cannot be used: "),
    "no driver": (f"mysql+pymysql://me:{WORD}@127.0.0.1/o", r"the Python package for mysql\+pymysql is not installed"),
    "no such thing": (f"nonsense+{WORD}://", "cannot be used|is no URL"),
    "no URL": (f"me {WORD}", "this is no URL of a database; write one such as postgresql"),
    "no port": (f"postgresql+psycopg://me:{WORD}@host:port/o", "this is no URL of a database"),
    "no folder": ("sqlite:////nowhere/at/all.db", "cannot be used: .*unable to open"),
}


@pytest.mark.parametrize(("url", "said"), MISTAKES.values(), ids=MISTAKES)
def test_what_cannot_be_used_is_said_without_the_password(
    url: str, said: str, folder: Path, capfd: pytest.CaptureFixture[str]
):
    with pytest.raises(StudyError, match=said):
        _in(read_export(folder), url)
    with pytest.raises(SystemExit) as end:
        main(["dashboard", str(folder), "--storage", url])
    told = capfd.readouterr()
    assert end.value.code == 2
    assert told.err.startswith("error: ")
    if not url.startswith("nonsense"):
        assert WORD not in told.out + told.err


def test_a_password_is_not_kept(folder: Path, postgres: str, capfd: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as end:
        main(["dashboard", str(folder), "--storage", postgres, "--name", "kept"])
    told = capfd.readouterr()
    assert (end.value.code, told.err) == (0, "")
    assert f"wrote {TRIALS} trials as kept into the database" in told.out
    assert "5ecret" not in told.out
    assert not any(b"5ecret" in path.read_bytes() for path in folder.rglob("*") if path.is_file())
    with _opened(postgres) as storage:
        (kept,) = (study for study in storage.get_all_studies() if study.study_name == "kept")
    assert "5ecret" not in str(kept.user_attrs) + str(kept.system_attrs)


# ---- the dashboard


def _ask(address: str, path: str) -> Any:
    with urlopen(f"{address}{path}", timeout=30) as answer:
        return json.load(answer)


def _shown(address: str) -> list[dict[str, Any]]:
    """The trials of the study `served`, by the dashboard's own interface."""
    with urlopen(address, timeout=30) as page:
        assert b"<html" in page.read()[:300].lower()
    (study,) = (s for s in _ask(address, "api/studies")["study_summaries"] if s["study_name"] == "served")
    trials: list[dict[str, Any]] = _ask(address, f"api/studies/{study['study_id']}?after=0")["trials"]
    return trials


def _is_right(shown: list[dict[str, Any]], found: Export) -> None:
    assert [trial["number"] for trial in shown] == list(range(TRIALS))
    for trial, ours in zip(shown, found.trials, strict=True):
        assert trial["state"].lower() == ours.state.name.lower()
        assert trial.get("values") == ours.values
        assert {p["name"]: p["param_external_value"] for p in trial["params"]} == {
            name: str(value) for name, value in ours.params.items()
        }


@contextmanager
def _serving(*command: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Run a command that serves the dashboard on a free port; the address and the process."""
    port = _free_port()
    address = f"http://127.0.0.1:{port}/"
    with subprocess.Popen([sys.executable, *command, "--port", str(port)], preexec_fn=_heed_ctrl_c) as dashboard:
        try:
            _wait_for_page(address, dashboard)
            yield address, dashboard
        finally:
            dashboard.kill()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def _wait_for_page(address: str, dashboard: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 60
    while True:
        try:
            urlopen(address, timeout=30).close()
            return
        except URLError:
            assert dashboard.poll() is None, "the dashboard ended"
            assert time.monotonic() < end, "the dashboard did not start"
        time.sleep(0.1)


def _heed_ctrl_c() -> None:
    """Tests that run in the background of a shell ignore it, and so would what they start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("place", ["file", "sqlite", "postgres"])
def test_the_dashboard_shows_the_study_until_ctrl_c(
    place: str, folder: Path, found: Export, tmp_path: Path, request: pytest.FixtureRequest
):
    databases = {"file": lambda: None, "sqlite": lambda: f"sqlite:///{tmp_path}/optuna.db"}
    url = databases.get(place, lambda: request.getfixturevalue("postgres"))()
    command = ["dashboard", str(folder), "--name", "served", "--serve", *(["--storage", url] if url else [])]
    with _serving("-c", "from hiri_search.cli.main import main; main()", *command) as (address, dashboard):
        _is_right(_shown(address), found)
        dashboard.send_signal(signal.SIGINT)
        assert dashboard.wait(timeout=30) == 0


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


def test_the_file_is_what_optuna_dashboard_opens(found: Export, tmp_path: Path):
    to_file(replace(found, name="served"), tmp_path / JOURNAL)
    with _serving("-m", "optuna_dashboard._cli", str(tmp_path / JOURNAL)) as (address, _):
        _is_right(_shown(address), found)
