"""The ledger: whatever stops the writer, all whole events are there, and only one process writes."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hiri_search.study.errors import StudyError
from hiri_search.study.ledger.events import Event
from hiri_search.study.ledger.layout import LEDGER
from hiri_search.study.ledger.ledger import open_ledger, read_events, trials
from hiri_search.study.ledger.trial import Trial

ASKED = {"event": "asked", "trial": 0, "name": "ä", "key": "k", "seed": 0, "decisions": {"net": 0}}
HOLDER = """
import sys, time
from pathlib import Path
from hiri_search.study.ledger.ledger import open_ledger
with open_ledger(Path(sys.argv[1])) as ledger:
    ledger.append("asked", trial=0)
    print("held", flush=True)
    time.sleep(60)
"""


def _epoch(number: int, top1: float = 1.0) -> Event:
    return {"event": "epoch", "trial": 0, **_facts(number, top1)}


def _facts(number: int, top1: float = 1.0) -> dict[str, float]:
    return {"epoch": number, "top1": top1, "seconds": 1.5, "loss": 2.0}


# ---- the file


def test_what_is_written_is_read(tmp_path: Path):
    with open_ledger(tmp_path / "new") as ledger:
        ledger.append("asked", trial=0, name="ä\n")
        ledger.append("failed", trial=0, reason="x")
    events = [{"event": "asked", "trial": 0, "name": "ä\n"}, {"event": "failed", "trial": 0, "reason": "x"}]
    assert read_events(tmp_path / "new") == events
    with open_ledger(tmp_path / "new") as ledger:
        assert ledger.events == events


def test_a_line_is_on_disk_before_append_returns(tmp_path: Path):
    with open_ledger(tmp_path) as ledger:
        for count in range(1, 4):
            ledger.append("asked", trial=count)
            assert len(read_events(tmp_path)) == count


def test_torn_at_any_byte_of_the_last_line_all_whole_events_are_there_and_the_next_is_added(tmp_path: Path):
    first, last = ({**ASKED, "trial": number} for number in (0, 1))
    whole, end = (json.dumps(event, ensure_ascii=False).encode() + b"\n" for event in (first, last))
    path = tmp_path / LEDGER
    for kept in range(len(end) + 1):
        path.write_bytes(whole + end[:kept])
        expected = [first, last] if kept == len(end) else [first]
        assert read_events(tmp_path) == expected
        with open_ledger(tmp_path) as ledger:
            assert ledger.events == expected
            ledger.append("failed", trial=0, reason="later")
        assert read_events(tmp_path) == [*expected, {"event": "failed", "trial": 0, "reason": "later"}]


def test_a_last_line_of_rubbish_is_cut_though_it_ends(tmp_path: Path):
    (tmp_path / LEDGER).write_bytes(b'{"event": "study"}\n\0\0\0\n')
    with open_ledger(tmp_path) as ledger:
        ledger.append("asked", trial=0)
    assert [event["event"] for event in read_events(tmp_path)] == ["study", "asked"]


@pytest.mark.parametrize("broken", [b"{", b"", b"3", b'{"trial": 0}', b"\xff\xfe", b'{"event": 3}'])
def test_a_broken_line_in_the_middle_is_named_and_nothing_is_changed(tmp_path: Path, broken: bytes):
    content = b'{"event": "study"}\n' + broken + b'\n{"event": "asked", "trial": 0}\n'
    (tmp_path / LEDGER).write_bytes(content)
    with pytest.raises(StudyError, match=r"ledger\.jsonl:2: this line cannot be read"):
        read_events(tmp_path)
    with pytest.raises(StudyError, match=r"ledger\.jsonl:2: this line cannot be read"), open_ledger(tmp_path):
        pass
    assert (tmp_path / LEDGER).read_bytes() == content


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
        assert ledger.events == [{"event": "asked", "trial": 0}]
    assert (tmp_path / "ledger.lock").read_text().startswith(f"{os.getpid()} on ")


# ---- trials as their events tell them


def _folded(*events: Event) -> Trial:
    (trial,) = trials([{"event": "study"}, ASKED, *events])
    return trial


FINISHED: Event = {"event": "finished", "trial": 0, "curve": [_facts(1), _facts(2, 9.0)]}
FAILED: Event = {"event": "failed", "trial": 0, "reason": "OSError: x", "traceback": ""}
RETRIED: Event = {"event": "retried", "trial": 0}
FOLDED = {
    "asked": ((), "unfinished", "", []),
    "an epoch": ((_epoch(1),), "unfinished", "", [1.0]),
    "an epoch told twice": ((_epoch(1), _epoch(2), _epoch(2, 3.0)), "unfinished", "", [1.0, 3.0]),
    "gone back two epochs": ((_epoch(1), _epoch(2), _epoch(3), _epoch(2, 4.0)), "unfinished", "", [1.0, 4.0]),
    "finished": ((_epoch(1), FINISHED), "finished", "", [1.0, 9.0]),
    "failed": ((_epoch(1), FAILED), "failed", "OSError: x", [1.0]),
    "retried": ((_epoch(1), FAILED, RETRIED), "unfinished", "", [1.0]),
    "retried and finished": ((FAILED, RETRIED, FINISHED), "finished", "", [1.0, 9.0]),
}


@pytest.mark.parametrize(("events", "state", "reason", "curve"), FOLDED.values(), ids=FOLDED)
def test_a_trial_is_what_its_events_tell(events: tuple[Event, ...], state: str, reason: str, curve: list[float]):
    trial = _folded(*events)
    assert (trial.state, trial.reason) == (state, reason)
    assert [epoch.top1 for epoch in trial.curve] == curve
    row = trial.row()
    assert (row["curve"], row["epochs"], row["seconds"]) == (curve, len(curve), 1.5 * len(curve))
    assert row["top1"] == (curve[-1] if curve else None)


def test_trials_come_by_number():
    told = [{**ASKED, "trial": number} for number in (2, 0, 1)]
    assert [trial.number for trial in trials(told)] == [0, 1, 2]


def test_a_trial_that_was_never_asked_for_is_a_lost_line():
    with pytest.raises(StudyError, match=r"ledger\.jsonl:2: trial 7 was never asked for"):
        trials([{"event": "study"}, {"event": "epoch", "trial": 7, "epoch": 1}])
