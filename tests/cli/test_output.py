"""Output that is closed, full, not UTF-8, or read by nobody any more."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from hiri_search.cli import output
from hiri_search.cli.console import Console
from hiri_search.cli.output import READER_GONE, lossy, unread_output
from tests.study.records import asked, network, new_trial, study_started, write_ledger

ROOT = Path(__file__).parents[2]
HOSTILE = ("stem [/2]", "[bold]x", "[/x]", ":x:", "\x1b[31m", "a\nb", "é → ±", "\udce9", "x" * 500, "")


def _no_reader() -> int:
    reading, writing = os.pipe()
    os.close(reading)
    return writing


def _full() -> int:
    return os.open("/dev/full", os.O_WRONLY)


def _hung_up() -> int:
    """Return a terminal that was closed."""
    controller, terminal = os.openpty()
    os.close(controller)
    return terminal


GONE: dict[str, Callable[[], int]] = {"no reader": _no_reader, "full disk": _full, "closed terminal": _hung_up}


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize("gone", GONE.values(), ids=GONE)
def test_a_study_goes_on_where_nothing_can_be_printed(
    gone: Callable[[], int], encoding: str, monkeypatch: pytest.MonkeyPatch
):
    with lossy(gone(), encoding) as file:
        monkeypatch.setattr(sys, "stdout", file)
        _show_everything()


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize("colour", [{}, {"FORCE_COLOR": "1"}, {"TERM": "dumb"}], ids=str)
def test_names_are_shown_as_they_are(
    colour: dict[str, str], encoding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name, value in colour.items():
        monkeypatch.setenv(name, value)
    with (tmp_path / "log").open("w", encoding=encoding) as file:
        monkeypatch.setattr(sys, "stdout", file)
        _show_everything()
    text = (tmp_path / "log").read_text(encoding=encoding)
    for shown in ("stem [/2]", "[bold]x", "[/x]", ":x:", r"\x1b[31m", r"a\nb", r"\udce9", "é → ±"):
        assert shown.encode(encoding, "backslashreplace").decode(encoding) in text
    assert "\x1b[?25l" not in text, "a live table is for a terminal"


def test_a_terminal_shows_names_as_they_are(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "200")
    controller, terminal = os.openpty()
    with os.fdopen(terminal, "w", encoding="utf-8") as file:
        monkeypatch.setattr(sys, "stdout", file)
        for name in ("stem [/2]", "[bold]x", "\x1b[31m"):
            with Console() as console:
                console.on_trial(new_trial(net=network(name), reason="[/x]", state="failed"))
        del console  # closes its duplicate of the terminal
    content = bytearray()
    with suppress(OSError):  # the end, where nobody writes any more; one read returns 4 KB at most
        while part := os.read(controller, 1 << 16):
            content += part
    os.close(controller)
    text = content.decode()
    for shown in ("stem [/2]", "[bold]x", r"\x1b[31m", "failed: [/x]"):
        assert shown in text


def _show_everything() -> None:
    with Console() as console:
        for name in HOSTILE:
            console.say(name)
            console.on_trial(new_trial(net=network(name), reason=name, state="failed"))
            console.table(["name", name], [[name, "1"]])


def test_a_closed_terminal_stops_no_command_that_writes_results():
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup, under which the tests may run, ignores it
    with unread_output():
        os.kill(os.getpid(), signal.SIGHUP)
        ran = subprocess.run([sys.executable, "-S", "-c", "import os; os.kill(os.getpid(), 1)"], check=False)
    assert ran.returncode == 0, "what it starts goes on, too"
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_DFL


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    write_ledger(folder, [study_started(command="\udce9"), asked(net=network("[/x] é"))])
    return folder


SHELL = {  # what follows a command: exit codes of the command and the words on its error output
    "| head -1": (READER_GONE, ""),
    "| true": (READER_GONE, ""),
    "> /dev/full": (output.FULL, "error: the output cannot be written: No space left on device\n"),
    ">&-": (0, ""),
    ">&- 2>&- <&-": (0, ""),
    "> /dev/null 2> /dev/full": (0, ""),
}


@pytest.mark.waits
@pytest.mark.parametrize("after", SHELL)
def test_a_command_that_only_prints_ends_in_a_word_where_its_output_goes_away(after: str, tmp_path: Path):
    (tmp_path / "space.yaml").write_text("space: hr(32 e=4|6) -> t(64..6400/64 e=1..9)*1..9\n")
    code, words = SHELL[after]
    command = f"{sys.executable} -m hiri_search list {tmp_path}/space.yaml --limit 10000 {after}"
    ran = subprocess.run(
        ["bash", "-c", f"{command}; exit ${{PIPESTATUS[0]}}"], cwd=ROOT, capture_output=True, text=True
    )
    told = [line for line in ran.stderr.splitlines(keepends=True) if not line.endswith(" networks\n")]
    assert (ran.returncode, "".join(told)) == (code, words)


@pytest.mark.waits
@pytest.mark.parametrize("after", ["2>&1 | true", pytest.param(">&- 2>&-", marks=pytest.mark.slow)])
def test_a_command_that_writes_results_goes_on_to_its_end(after: str, folder: Path):
    (folder / "manifest.json").unlink(missing_ok=True)
    command = f"{sys.executable} -m hiri_search report {folder} {after}"
    ran = subprocess.run(
        ["bash", "-c", f"{command}; exit ${{PIPESTATUS[0]}}"], cwd=ROOT, capture_output=True, text=True
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert (folder / "manifest.json").exists()


@pytest.mark.waits
@pytest.mark.parametrize(
    "encoding", ["ascii", *(pytest.param(name, marks=pytest.mark.slow) for name in ("latin-1", "utf-8"))]
)
def test_what_an_encoding_lacks_is_no_error(encoding: str):
    command = [sys.executable, "-m", "hiri_search", "status", "no → folder"]
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, env=environment)
    assert (ran.returncode, ran.stderr.count(b"\n")) == (2, 1)
    assert b"folder holds no ledger.jsonl" in ran.stderr
