"""The ledger file: what survives a crash, who may write, and the trials that follow from its events."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hiri_search.cli.main import main
from hiri_search.study.errors import StudyError
from hiri_search.study.ledger.events import (
    FORMAT,
    EpochEnded,
    Event,
    LedgerStarted,
    RunEnded,
    TrialAsked,
    TrialEvent,
    TrialFailed,
    TrialFinished,
    TrialRetried,
)
from hiri_search.study.ledger.json_lines import write_line
from hiri_search.study.ledger.layout import LEDGER, OWN_LEDGER
from hiri_search.study.ledger.ledger import ledger_sum, of_kind, open_ledger, read_events, read_ledger, trials
from hiri_search.study.ledger.trial import Trial
from tests.study.records import asked, epoch, network, write_ledger

HOLDER = """
import sys, time
from pathlib import Path
from hiri_search.study.ledger.events import RunEnded
from hiri_search.study.ledger.ledger import open_ledger
with open_ledger(Path(sys.argv[1])) as ledger:
    ledger.append(RunEnded(seconds={}))
    print("held", flush=True)
    time.sleep(60)
"""
FIRST_LINE = b'{"event": "ledger", "format": 4}\n'


# ---- the file


def test_written_events_are_read_back(tmp_path: Path):
    events = [asked(net=network("ä\n")), TrialFailed(trial=0, reason="x")]
    with open_ledger(tmp_path / "new") as ledger:
        for event in events:
            ledger.append(event)
    content = read_ledger(tmp_path / "new")
    assert content.events == events
    assert all(event.time is not None for event in content.events)
    with open_ledger(tmp_path / "new") as ledger:
        assert ledger.events == events


def _copied(path: Path) -> None:
    copy = path.with_suffix(".copy")
    copy.write_bytes(path.read_bytes())
    copy.replace(path)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


REPLACED: dict[str, tuple[Callable[[Path], object], bool]] = {  # and whether a line is missing then
    "saved by an editor that renames": (_copied, False),
    "saved in place": (lambda path: path.write_bytes(path.read_bytes()), False),
    "touched": (lambda path: os.utime(path), False),
    "removed": (lambda path: path.unlink(), True),
    "emptied": (lambda path: path.write_bytes(b""), True),
    "cut in a line": (_cut, True),
    "an older copy": (lambda path: path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:2])), True),
}


@pytest.mark.parametrize(("change", "missing"), REPLACED.values(), ids=list(REPLACED))
def test_a_ledger_replaced_behind_its_writer_loses_nothing(
    tmp_path: Path, change: Callable[[Path], object], missing: bool
):
    said: list[str] = []
    events = [asked(0), TrialFailed(trial=0, reason="x"), TrialRetried(trial=0), RunEnded(seconds={})]
    with open_ledger(tmp_path, said.append) as ledger:
        for event in events[:2]:
            ledger.append(event)
        change(tmp_path / LEDGER)
        for event in events[2:]:
            ledger.append(event)
    assert read_events(tmp_path) == events
    assert [text for text in said if "the lines that it lacked are written again" in text] == said
    assert len(said) == missing


@pytest.mark.parametrize(
    "other", [b"something else\n", FIRST_LINE * 2, "more"], ids=["other lines", "another ledger", "more lines"]
)
def test_other_lines_behind_the_writer_end_the_run_and_both_files_stay(tmp_path: Path, other: bytes | str):
    path = tmp_path / LEDGER
    with open_ledger(tmp_path) as ledger:
        ledger.append(asked(0))
        own = path.read_bytes()
        theirs = own + own if isinstance(other, str) else other
        path.write_bytes(theirs)
        with pytest.raises(StudyError, match=f"another program has changed .*{OWN_LEDGER}"):
            ledger.append(TrialRetried(trial=0))
    assert path.read_bytes() == theirs
    assert (tmp_path / OWN_LEDGER).read_bytes() == own


def test_a_run_waits_for_a_ledger_that_is_out_of_reach_then_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder, said = tmp_path / "a", list[str]()
    folder.mkdir()
    with open_ledger(folder, said.append) as ledger:
        ledger.append(asked(0))
        folder.rename(tmp_path / "b")
        monkeypatch.setattr("time.sleep", lambda seconds: (tmp_path / "b").rename(folder))  # an outage that ends
        ledger.append(TrialRetried(trial=0))
        assert [text for text in said if "retrying" in text]
        folder.rename(tmp_path / "b")
        monkeypatch.setattr("hiri_search.system.files.retrying.__kwdefaults__", {"seconds": 0.0, "say": said.append})
        with pytest.raises(StudyError, match=r"cannot be written: .* the same command continues the study"):
            ledger.append(RunEnded(seconds={}))
    assert read_events(tmp_path / "b") == [asked(0), TrialRetried(trial=0)]


def test_the_first_line_names_the_format(tmp_path: Path):
    for _ in range(2):
        with open_ledger(tmp_path) as ledger:
            ledger.append(RunEnded(seconds={}))
    content = read_ledger(tmp_path)
    assert content.lines[0] + b"\n" == FIRST_LINE, "the same in every ledger"
    assert [b'"event": "ledger"' in line for line in content.lines] == [True, False, False]
    assert [event.event for event in content.events] == ["ended", "ended"]


def test_the_sum_of_a_ledger_covers_its_lines(tmp_path: Path):
    with open_ledger(tmp_path) as ledger:
        ledger.append(RunEnded(seconds={}))
    content = read_ledger(tmp_path)
    assert (content.sum.lines, content.sum) == (2, ledger_sum(content.lines))
    assert len({ledger_sum(content.lines).sha256, ledger_sum(content.lines[:1]).sha256, ledger_sum([]).sha256}) == 3


def test_a_line_is_on_disk_before_append_returns(tmp_path: Path):
    with open_ledger(tmp_path) as ledger:
        for count in range(1, 4):
            ledger.append(asked(count))
            assert len(read_events(tmp_path)) == count


def test_torn_at_any_byte_of_the_last_line_no_complete_event_is_lost(tmp_path: Path):
    """The next event is added after the last complete one."""
    first, last = (asked(number, network("ä")) for number in (0, 1))
    write_ledger(tmp_path, [first])
    path, later = tmp_path / LEDGER, TrialFailed(trial=0, reason="later")
    whole, end = path.read_bytes(), write_line(last) + b"\n"
    for length in range(len(end) + 1):
        path.write_bytes(whole + end[:length])
        expected: list[Event] = [first, last] if length == len(end) else [first]
        assert read_events(tmp_path) == expected
        with open_ledger(tmp_path) as ledger:
            assert ledger.events == expected
            ledger.append(later)
        assert read_events(tmp_path) == [*expected, later]


@pytest.mark.parametrize("length", range(len(FIRST_LINE)))
def test_a_torn_format_line_is_written_again(tmp_path: Path, length: int):
    (tmp_path / LEDGER).write_bytes(FIRST_LINE[:length])
    assert read_events(tmp_path) == []
    with open_ledger(tmp_path) as ledger:
        ledger.append(RunEnded(seconds={}))
    assert [b'"event": "ledger"' in line for line in read_ledger(tmp_path).lines] == [True, False]


def test_a_complete_last_line_of_garbage_is_cut(tmp_path: Path):
    (tmp_path / LEDGER).write_bytes(FIRST_LINE + write_line(RunEnded(seconds={})) + b"\n\0\0\0\n")
    with open_ledger(tmp_path) as ledger:
        ledger.append(asked())
    assert [event.event for event in read_events(tmp_path)] == ["ended", "asked"]


BROKEN = [b"{", b"", b"3", b'{"trial": 0}', b"\xff\xfe", b'{"event": 3}', b'{"event": "retried", "trial": "0"}']


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_line_in_the_middle_is_named_and_the_file_stays(tmp_path: Path, broken: bytes):
    content = FIRST_LINE + broken + b"\n" + write_line(asked()) + b"\n"
    (tmp_path / LEDGER).write_bytes(content)
    with pytest.raises(StudyError, match=r"ledger\.jsonl:2: this line cannot be read"):
        read_events(tmp_path)
    with pytest.raises(StudyError, match=r"ledger\.jsonl:2: this line cannot be read"), open_ledger(tmp_path):
        pass
    assert (tmp_path / LEDGER).read_bytes() == content


# ---- another format

OTHER_FORMATS = {
    "an older ledger": b'{"event": "study", "title": "old", "meaning": {}}\n{"event": "ended", "seconds": {}}\n',
    "a newer ledger": b'{"event": "ledger", "format": 5}\n{"event": "ended", "seconds": {}}\n',
    "another file": b'{"name": 1}\n{"name": 2}\n',
    "no JSON": b"a,b\n1,2\n",
}


@pytest.mark.parametrize("content", OTHER_FORMATS.values(), ids=OTHER_FORMATS)
def test_another_format_is_refused_in_one_line(content: bytes, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    results, study = tmp_path / "results", tmp_path / "study.yaml"
    results.mkdir()
    (results / LEDGER).write_bytes(content)
    study.write_text("nets: {one: hr(32 e=4)}\ndata: {train: 32, val: 16}\nrecipe: {batch: 16}\n")
    refused = (
        f"{results / LEDGER} has another format; this version of hiri_search reads format {FORMAT} only:"
        " continue with the version that began it, give another folder with --results, or begin with --fresh"
    )
    with pytest.raises(StudyError) as error:
        read_ledger(results)
    assert str(error.value) == refused
    for command in (["run", str(study), "--results", str(results), "--serial"], ["status", str(results)]):
        with pytest.raises(SystemExit) as end:
            main(command)
        assert (end.value.code, capfd.readouterr().err) == (2, f"error: {refused}\n")
    assert (results / LEDGER).read_bytes() == content


# ---- one writer


def test_a_second_process_is_refused_by_name_until_the_first_is_killed(tmp_path: Path):
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(StudyError, match=f"in use by process {holder.pid} on .+; wait"), open_ledger(tmp_path):
            pass
        assert len(read_events(tmp_path)) == 1, "reading needs no lock"
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with open_ledger(tmp_path) as ledger:
        assert ledger.events == [RunEnded(seconds={})]
    assert (tmp_path / "ledger.lock").read_text().startswith(f"{os.getpid()} on ")


# ---- trials from their events


def _ended(number: int, top1: float = 1.0) -> EpochEnded:
    return EpochEnded(trial=0, result=epoch(number, top1, seconds=1.5))


FINISHED = TrialFinished(trial=0, curve=(epoch(1, 1.0, seconds=1.5), epoch(2, 9.0, seconds=1.5)))
FAILED = TrialFailed(trial=0, reason="OSError: x")
RETRIED = TrialRetried(trial=0)
STATES: dict[str, tuple[tuple[TrialEvent, ...], str, str, list[float]]] = {
    "asked": ((), "unfinished", "", []),
    "an epoch": ((_ended(1),), "unfinished", "", [1.0]),
    "an epoch reported twice": ((_ended(1), _ended(2), _ended(2, 3.0)), "unfinished", "", [1.0, 3.0]),
    "back by two epochs": ((_ended(1), _ended(2), _ended(3), _ended(2, 4.0)), "unfinished", "", [1.0, 4.0]),
    "finished": ((_ended(1), FINISHED), "finished", "", [1.0, 9.0]),
    "failed": ((_ended(1), FAILED), "failed", "OSError: x", [1.0]),
    "retried": ((_ended(1), FAILED, RETRIED), "unfinished", "", [1.0]),
    "retried and finished": ((FAILED, RETRIED, FINISHED), "finished", "", [1.0, 9.0]),
}


def _trial(*events: TrialEvent) -> Trial:
    (trial,) = trials([RunEnded(seconds={}), asked(), *events])
    return trial


@pytest.mark.parametrize(("events", "state", "reason", "curve"), STATES.values(), ids=STATES)
def test_the_state_of_a_trial_follows_from_its_events(
    events: tuple[TrialEvent, ...], state: str, reason: str, curve: list[float]
):
    trial = _trial(*events)
    assert (trial.state, trial.reason) == (state, reason)
    assert [epoch.scores["top1"] for epoch in trial.curve] == curve
    row = trial.row()
    assert (row["curve"], row["epochs"], row["seconds"]) == (curve, len(curve), 1.5 * len(curve))
    assert row["top1"] == (curve[-1] if curve else None)


def test_trials_are_ordered_by_number():
    assert [trial.number for trial in trials([asked(number) for number in (2, 0, 1)])] == [0, 1, 2]


def test_a_trial_that_was_never_asked_for_is_an_error():
    with pytest.raises(StudyError, match=r"ledger\.jsonl:3: trial 7 was never asked for"):
        trials([RunEnded(seconds={}), EpochEnded(trial=7, result=epoch())])


def test_events_are_selected_by_kind():
    events = [LedgerStarted(format=FORMAT), asked(0), FAILED, asked(1)]
    assert of_kind(events, TrialAsked) == [asked(0), asked(1)]
    assert of_kind(events, TrialEvent) == [asked(0), FAILED, asked(1)]
