"""The edge of the command line: every path and number of a user, and every fault of the machine, is one sentence."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from errno import ENOSPC
from pathlib import Path

import pytest

from hiri_search.api import running as run_parts
from hiri_search.cli.main import main
from hiri_search.study import status
from hiri_search.study.config.files import yaml_file
from hiri_search.study.config.read import read_study
from hiri_search.study.errors import StudyError
from hiri_search.study.ledger.ledger import open_ledger
from tests.study.records import study_started, write_ledger

STUDY = """\
nets: {one: hr(32 e=4) -> t(64 e=2)}
counted: {side: 64, classes: 10}
proxy: {width: 4, side: 32, classes: 2}
data: {source: drawn, train: 64, val: 32}
recipe: {epochs: 1, batch: 16, warmup_epochs: 0}
seeds: 1
"""

# ---- commands and paths


def _link_to_itself(path: Path) -> None:
    path.symlink_to(path.name)


def _folder_for_the_ledger(path: Path) -> None:
    (path / "ledger.jsonl").mkdir(parents=True)


def _empty_ledger(path: Path) -> None:
    path.mkdir()
    (path / "ledger.jsonl").touch()


PATHS: dict[str, tuple[str, Callable[[Path], object]]] = {  # name of a path, and what makes it
    "missing": ("missing", lambda path: None),
    "empty file": ("file", lambda path: path.touch()),
    "bytes": ("bytes", lambda path: path.write_bytes(b"\xff\xfe\0\x80")),
    "below a file": ("file/below", lambda path: path.parent.touch()),
    "folder": ("folder", lambda path: (path / "inner").mkdir(parents=True)),
    "circle of links": ("link", _link_to_itself),
    "name too long": ("x" * 300, lambda path: None),
    "folder for the ledger": ("results", _folder_for_the_ledger),
    "empty ledger": ("results", _empty_ledger),
    # Links, so that a command which replaces what it should write to does not take the devices of a machine away.
    "no disk space": ("full", lambda path: path.symlink_to("/dev/full")),
    "endless": ("zero", lambda path: path.symlink_to("/dev/zero")),
}
COMMANDS = {
    "run": ("run", "PATH", "--serial"),
    "run --plan": ("run", "PATH", "--plan"),
    "report": ("report", "PATH"),
    "status": ("status", "PATH"),
    "status --json": ("status", "PATH", "--json"),
    "dashboard": ("dashboard", "PATH"),
    "list": ("list", "PATH"),
    "compare": ("compare", "GOOD", "PATH"),
    "merge": ("merge", "GOOD", "PATH", "-o", "new"),
    "verify": ("verify", "PATH"),
    "recipe": ("run", "study.yaml", "--results", "new", "--set", "recipe=PATH"),
    "space": ("run", "study.yaml", "--results", "new", "--set", "space=PATH.yaml", "--set", "nets="),
    "data": ("run", "study.yaml", "--results", "new", "--set", "data=folder:PATH"),
    "-o of compare": ("compare", "GOOD", "GOOD", "-o", "PATH"),
    "-o of merge": ("merge", "GOOD", "GOOD", "-o", "PATH"),
    "results": ("run", "study.yaml", "--results", "PATH", "--set", "data=folder:missing"),
    "fresh": ("run", "study.yaml", "--fresh", "--results", "PATH", "--set", "data=folder:missing"),
    "init": ("init", "PATH"),
}
WRITTEN = {("-o of compare", name) for name in ("missing", "empty file", "bytes", "endless")} | {("init", "missing")}
FOUND = {("verify", "empty ledger")}  # exit code 1: the checks found something


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_bad_path_is_one_sentence(
    command: str, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    Path("study.yaml").write_text(STUDY)
    Path("good").mkdir()
    write_ledger(Path("good"), [study_started(read_study(Path("study.yaml")))])
    name, make = PATHS[path]
    make(Path(name))
    with pytest.raises(SystemExit) as ended:
        main([word.replace("PATH", name).replace("GOOD", "good") for word in COMMANDS[command]])
    expected = 0 if (command, path) in WRITTEN else 1 if (command, path) in FOUND else 2
    message = capfd.readouterr().err
    assert ended.value.code == expected, message
    assert "Traceback" not in message
    if expected == 2:
        assert message.startswith(("error: ", "Usage: "))


def test_a_table_goes_into_a_pipe_and_through_a_link(tmp_path: Path):
    (tmp_path / "study.yaml").write_text(STUDY)
    folder = str(tmp_path)
    write_ledger(tmp_path, [study_started(read_study(tmp_path / "study.yaml"))])
    os.mkfifo(pipe := tmp_path / "pipe")
    (link := tmp_path / "link.md").symlink_to(tmp_path / "table.md")
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    for out in (pipe, link, link):  # at first the link leads nowhere
        with pytest.raises(SystemExit) as ended:
            main(["compare", folder, folder, "-o", str(out)])
        assert ended.value.code == 0
    assert pipe.is_fifo()
    assert link.is_symlink()
    assert os.read(reader, 10_000) == (tmp_path / "table.md").read_bytes()
    os.close(reader)


@pytest.mark.parametrize("command", [("init", "new"), ("compare", ".", ".", "-o", "new")], ids=" ".join)
def test_a_full_disk_is_named_and_leaves_no_part_of_a_file(
    command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    def fail(number: int) -> None:
        raise OSError(ENOSPC, "No space left on device")

    monkeypatch.chdir(tmp_path)
    Path("study.yaml").write_text(STUDY)
    write_ledger(tmp_path, [study_started(read_study(Path("study.yaml")))])
    before = sorted(tmp_path.iterdir())
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(SystemExit) as ended:
        main(list(command))
    assert ended.value.code == 2
    message = capfd.readouterr().err
    assert "new cannot be " in message
    assert "No space left on device" in message
    assert sorted(tmp_path.iterdir()) == before


# ---- faults of the machine

FAULTS = {
    "no file": (FileNotFoundError(2, "No such file or directory", "a/b"), "a/b cannot be used (No such file or direc"),
    "a rename": (OSError(21, "Is a directory", "b.tmp", None, "b"), "b cannot be used (Is a directory); give another"),
    "full disk": (OSError(28, "No space left on device"), "No space left on device"),
    "memory": (MemoryError("Unable to allocate 21 TiB"), "MemoryError: Unable to allocate 21 TiB"),
    "memory of torch": (RuntimeError("[enforce fail] can't allocate memory: 1 PB\nframe #0"), "allocate memory: 1 PB;"),
    "recursion": (RecursionError("maximum recursion depth exceeded"), "RecursionError: maximum recursion depth"),
    "overflow": (OverflowError("int too large to convert to float"), "OverflowError: int too large"),
    "text": (UnicodeEncodeError("utf-8", "\udcff", 0, 1, "surrogates not allowed"), "surrogates not allowed"),
    "ours": (StudyError("the folder is in use"), "error: the folder is in use\n"),
}


@pytest.mark.parametrize(("error", "expected"), FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("arguments", [("status", "x"), ("status", "x", "--debug"), ("--debug", "status", "x")])
def test_a_fault_of_the_machine_is_one_sentence_and_debug_adds_the_traceback(
    error: Exception,
    expected: str,
    arguments: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
):
    def fail(folder: Path) -> None:
        raise error

    monkeypatch.setattr(status, "status", fail)
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    message = capfd.readouterr().err
    assert ended.value.code == 2
    assert expected in message
    assert ("Traceback" in message) == ("--debug" in arguments)
    assert len(message.splitlines()) == 1 or "--debug" in arguments


def test_a_ledger_of_a_study_that_is_no_longer_valid_is_one_sentence(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    (tmp_path / "study.yaml").write_text(STUDY)
    started = study_started(read_study(tmp_path / "study.yaml"))
    write_ledger(tmp_path, [replace(started, file=started.file | {"seeds": [1, 1]})])
    for command in ("report", "status", "dashboard"):
        with pytest.raises(SystemExit) as ended:
            main([command, str(tmp_path)])
        assert ended.value.code == 2
        assert "a study that this version does not take: seeds: " in capfd.readouterr().err


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch):
    def fail(folder: Path) -> None:
        raise ValueError("shapes do not match")

    monkeypatch.setattr(status, "status", fail)
    with pytest.raises(ValueError, match="shapes"):
        main(["status", "x"])


# ---- numbers and sides

HUGE = "9" * 30
OPTIONS = [
    *(("count", "hr(32 e=4)", "--side", number) for number in ("1e999", "nan", "-8", "0", HUGE, "8200")),
    *(("count", "hr(32 e=4)", "--classes", number) for number in ("inf", "0", HUGE)),
    *(("latency", f"hr(32 e=4)@{side}") for side in ("0", "-8", "²", "1e3", HUGE, "8193", "", "inf")),
    *(("latency", "hr(32 e=4)", "--seconds", number) for number in ("1e999", "nan", "-1", "0")),
    *(("latency", "hr(32 e=4)", "--batch", number) for number in ("0", "-1", "nan")),
    *(("latency", "hr(32 e=4)", "--threads", number) for number in ("0", HUGE)),
    *(("list", "space.yaml", "--limit", number) for number in ("1e999", HUGE)),
    ("run", "study.yaml", "--slots", HUGE),
    ("watch", "x", "--port", "99999"),
    # sides that a network does not take, and networks that cannot be counted
    ("count", "hr(32 e=4)", "--side", "12"),
    ("latency", "hr(32 e=4)@12"),
    *((command, "timm:hirivit_small", "--side", "224") for command in ("count", "latency")),
    *((command, "timm:inception_v3", "--side", "40") for command in ("count", "latency")),
    ("latency", "timm:pvt_v2_b2_hiri@20"),
    ("count", "timm:sequencer2d_s", "--side", "64"),
    ("count", "timm:resnet50.a1_in1k"),
]


@pytest.mark.parametrize("arguments", OPTIONS, ids=" ".join)
def test_a_number_or_a_side_that_cannot_be_is_one_sentence(
    arguments: tuple[str, ...], capfd: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    message = capfd.readouterr().err
    assert ended.value.code == 2
    assert "Traceback" not in message
    assert len(message.splitlines()) <= 4


def test_a_side_for_our_network_of_timm_names_the_nearest_ones(capfd: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main(["latency", "timm:hirivit_small@224"])
    assert "it must be a multiple of 64; the nearest is 192 or 256" in capfd.readouterr().err


ROWS = {
    "ours": "timm:hirivit_small",
    "counted": "{spec: timm:inception_v3, stand_in: timm:test_resnet}",
    "trained": "{spec: timm:resnet18, stand_in: timm:inception_v3}",
    "not counted": "{spec: timm:sequencer2d_s, stand_in: timm:test_resnet}",
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_a_row_of_timm_that_does_not_fit_is_refused_before_images_are_read(
    row: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    (tmp_path / "study.yaml").write_text(STUDY.replace("hr(32 e=4) -> t(64 e=2)", row))
    with pytest.raises(SystemExit) as ended:
        main(["run", str(tmp_path / "study.yaml"), "--results", str(tmp_path / "results"), "--set", "data=folder:none"])
    message = capfd.readouterr().err
    assert ended.value.code == 2
    assert message.startswith("error: nets.one: ")
    assert len(message.splitlines()) == 1


# ---- the user's own folders, and pipes


@pytest.mark.parametrize("folder", [".", "..", "inner/..", "inner"])
def test_fresh_does_not_rename_a_folder_with_other_files_of_the_user(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    own = tmp_path / "own"
    (own / "inner").mkdir(parents=True)
    (own / "study.yaml").write_text(STUDY)
    file = own / "study.yaml"
    monkeypatch.chdir(own / "inner" if folder == ".." else own)
    for place in (own, own / "inner"):
        with open_ledger(place):
            pass
    if folder == "inner":
        run_parts.start_fresh(read_study(file), Path(folder), file, lambda text: None)
        assert not (own / "inner").exists()
    else:
        with pytest.raises(StudyError, match=r"--fresh renames .* which holds .*; give a folder of the results alone"):
            run_parts.start_fresh(read_study(file), Path(folder), file, lambda text: None)
    assert file.exists()


def _pipe(text: str) -> str:
    """Return the path of a pipe that gives a text once, as the shell's <(command) does."""
    reading, writing = os.pipe()
    os.write(writing, text.encode())
    os.close(writing)
    return f"/dev/fd/{reading}"


def test_a_study_may_come_from_a_pipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd):
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text("{epochs: 1, batch: 15}")  # paths in the study are relative to the working folder
    text = STUDY.replace("{epochs: 1, batch: 16, warmup_epochs: 0}", "mine.yaml")
    for named in (True, False):
        for results, expected in (
            (["--results", "new"], "batch=15 is not po"),
            ([], "gives no name to the results; na"),
        ):
            path = _pipe(text)
            monkeypatch.setattr(yaml_file, "STANDARD_INPUT", Path(path))
            with pytest.raises(SystemExit) as ended:
                main(["run", path if named else "-", *results])
            assert ended.value.code == 2
            assert expected in capfd.readouterr().err


def test_windows_is_refused_in_one_line():
    code = "import sys; sys.platform = 'win32'; import hiri_search.cli.main"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.returncode == 1
    assert ran.stderr == (
        "error: hiri_search needs Linux or macOS: its locks and process groups are POSIX; use it in WSL 2\n"
    )
