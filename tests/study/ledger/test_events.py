"""Ledger events: every kind as a line of JSON and back; what is no event is refused; mypy finds a misspelt field."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import MISSING, Field, fields, replace
from pathlib import Path
from typing import Any, get_args

import pytest

from hiri_search.study.ledger.events import (
    FORMAT,
    AnyEvent,
    EpochEnded,
    Event,
    FolderMerged,
    InferenceTimed,
    LedgerStarted,
    NetworkCounted,
    NetworkSkipped,
    Planned,
    RunEnded,
    StintEnded,
    StudyStarted,
    TrialAsked,
    TrialBegan,
    TrialEvent,
    TrialFailed,
    TrialFinished,
    TrialLost,
    TrialOutOfMemory,
    TrialPaused,
    TrialPromoted,
    TrialRetried,
    TrialScored,
    TrialStopped,
)
from hiri_search.study.ledger.json_lines import InvalidLine, read_line, write_line
from hiri_search.study.ledger.values import CodeVersion, ImageSet, LedgerSum
from tests.study.records import epoch, network

ROOT = Path(__file__).parents[3]
FILE: dict[str, Any] = {"nets": {"one": {"spec": "hr(32 e=4)"}}, "seeds": [0, 1], "ä": None, "share": 0.1}
IMAGES = ImageSet(train=8, val=4, classes=2, fingerprints={"32": "abc"}, skipped=("a/b.png",))
NETWORK = network("ä\n", ms_per_image=0.25, merged_from="results/a", merged_name="b")
EPOCH = epoch(
    2,
    12.5,
    more={"ema_top1": 1.5},
    test_scores={"top1": 2.5},
    compile_seconds=0.1,
    peak_memory_bytes=2**40,
    joules=1e-9,
)
EVENTS: list[Event] = [  # one of each kind, every field with another value than its default
    LedgerStarted(format=FORMAT),
    StudyStarted(
        file=FILE,
        profile="gpu",
        device="GPU",
        images=IMAGES,
        code=CodeVersion("1.0", "0123", commit="abc", changed=("a.py",), diff="+1"),
        command="hiri-search run",
        versions={"torch": "2", "ray": None},
        machine={"cuda": None, "cores": 2},
        merged_from=("a", "b"),
        overlooked=("recipe.lr: 1 -> 2",),
        weights={"last.pt": "0" * 16},
        adapted=("recipe.weights=w.pth has no last layer; a new one begins for 4",),
    ),
    FolderMerged(
        folder="a",
        ledger=LedgerSum(3, "abc"),
        runs=({"ended": True},),
        code_digest="0123",
        file=FILE,
        images=IMAGES,
    ),
    Planned(plan={"seconds": {"trials": 0.1}}),
    RunEnded(seconds={"trials": 0.1 + 0.2}, exhausted=True),
    NetworkCounted(network=NETWORK),
    InferenceTimed(
        key="k",
        ms_per_image=0.1,
        images_per_second=10.0,
        spread=0.01,
        settled=True,
        batch=1,
        side=64,
        dtype="float32",
        compiled=False,
        fused=True,
        repeats=5,
        passes=7,
        rounds_ms=(0.1, 0.2),
        cuda_graphs=True,
        compile_seconds=1.5,
        peak_memory_bytes=2**33,
        conditions={"cores": [0, 1]},
    ),
    NetworkSkipped(proposal=4, decisions={"1.w": 48, "2.which": "hr"}, reason="too large"),
    TrialAsked(
        trial=1,
        network=NETWORK,
        seed=2**40,
        checkpoint="checkpoints/0/last.pt",
        decisions={"1.w": 48, "2.which": "t"},
        confirms=0,
        confirm_epochs=8,
        added_for=("a", "b"),
        merged_trial=5,
    ),
    TrialBegan(trial=1, device="CPU"),
    TrialScored(trial=1, scores={"zen": 1.5, "synflow": None}),
    EpochEnded(trial=1, result=EPOCH),
    TrialPaused(trial=1, curve=(EPOCH,)),
    TrialPromoted(trial=1),
    TrialStopped(trial=1, reason="as trial 0"),
    TrialFinished(trial=1, curve=(EPOCH, EPOCH), source="trial 0"),
    TrialFailed(trial=1, reason="ValueError: x", traceback="line\nline"),
    TrialRetried(trial=1),
    TrialLost(trial=1, fault="environment", reason="OSError: x", traceback="line"),
    TrialOutOfMemory(trial=1, reason="too large"),
]


def _name(event: Event) -> str:
    return type(event).__name__


def _has_default(each: Field[Any]) -> bool:
    return each.default is not MISSING or each.default_factory is not MISSING


# ---- round trips


def test_there_is_an_example_of_every_kind():
    assert {type(event) for event in EVENTS} == set(get_args(AnyEvent))
    assert len(EVENTS) == len(get_args(AnyEvent))
    assert len({kind.event for kind in get_args(AnyEvent)}) == len(EVENTS), "no two kinds share a name"
    assert {kind for kind in get_args(AnyEvent) if issubclass(kind, TrialEvent)} >= set(get_args(StintEnded))


@pytest.mark.parametrize("event", EVENTS, ids=_name)
def test_every_event_is_read_back_as_it_was_written(event: Event):
    timed = replace(event, time=1.7e9 + 0.125)
    again = read_line(write_line(timed))
    assert again == event
    assert (type(again), again.time) == (type(event), timed.time)
    assert repr(again) == repr(timed), "also the types inside, such as tuples"
    assert write_line(again) == write_line(timed)
    assert b"\n" not in write_line(timed)


@pytest.mark.parametrize("event", EVENTS, ids=_name)
def test_fields_with_their_default_value_are_left_out(event: Event):
    required = {each.name: getattr(event, each.name) for each in fields(event) if not _has_default(each)}
    short = type(event)(**required)
    assert json.loads(write_line(short)).keys() == {"event", *required}
    assert read_line(write_line(short)) == short
    assert json.loads(write_line(replace(event, time=1.0))).keys() == {each.name for each in fields(event)}


def test_the_keys_of_a_line_are_the_names_of_the_fields():
    line = write_line(TrialAsked(trial=3, network=network("a"), seed=0, checkpoint="c", time=1.5))
    written = json.loads(line)
    assert line.startswith(b'{"event": "asked", "time": 1.5, "trial": 3, "network": {"name": "a", ')
    assert written["network"]["stand_in"]["side"] == 32
    assert json.loads(write_line(EpochEnded(trial=3, result=EPOCH)))["result"]["scores"]["top1"] == 12.5


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_is_not_written(value: float):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_line(RunEnded(seconds={"trials": value}))


# ---- lines that are no event

WITH_EPOCH: dict[str, Any] = json.loads(write_line(EpochEnded(trial=0, result=epoch())))
INVALID: dict[str, tuple[object, str]] = {
    "unknown key": ({"event": "retried", "trial": 0, "note": 1}, r"retried\.note: Unexpected keyword argument"),
    "unknown key inside": (WITH_EPOCH | {"result": WITH_EPOCH["result"] | {"top2": 1.0}}, r"epoch\.result\.top2: Unex"),
    "missing key": ({"event": "retried"}, r"retried\.trial: Field required"),
    "missing key inside": (WITH_EPOCH | {"result": {"epoch": 1}}, r"epoch\.result\.loss: Field required"),
    "text for an integer": ({"event": "retried", "trial": "0"}, r"retried\.trial: .* valid integer"),
    "float for an integer": ({"event": "retried", "trial": 1.0}, r"retried\.trial: .* valid integer"),
    "boolean for an integer": ({"event": "retried", "trial": True}, r"retried\.trial: .* valid integer"),
    "text for a float": (
        WITH_EPOCH | {"result": WITH_EPOCH["result"] | {"loss": "1.5"}},
        r"epoch\.result\.loss: .*num",
    ),
    "null": ({"event": "began", "trial": 0, "device": None}, r"began\.device: .* valid string"),
    "another choice": (
        {"event": "lost", "trial": 0, "fault": "user", "reason": "x"},
        r"lost\.fault: .* 'process' or 'environment'",
    ),
    "an element": ({"event": "paused", "trial": 0, "curve": [1]}, r"paused\.curve\.0: "),
    "unknown kind": ({"event": "done", "trial": 0}, r"'done' found using 'event' .* 'asked', 'began'"),
    "no kind": ({"trial": 0}, "tag using discriminator 'event'"),
    "no object": ([1], "Input should be an object"),
}


@pytest.mark.parametrize(("content", "words"), INVALID.values(), ids=INVALID)
def test_an_invalid_line_is_refused_with_the_place(content: object, words: str):
    with pytest.raises(InvalidLine, match=words) as error:
        read_line(json.dumps(content).encode())
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("line", [b"", b"{", b"\xff\xfe", b'{"event": "retried", "trial": 0} x'])
def test_a_line_that_is_no_json_is_refused(line: bytes):
    with pytest.raises(InvalidLine, match="Invalid JSON"):
        read_line(line)


# ---- types

READS_A_FIELD = """
from hiri_search.study.ledger.events import TrialAsked


def spec(event: TrialAsked) -> object:
    return event.{field}.spec
"""


@pytest.mark.slow
def test_mypy_refuses_a_misspelt_field(tmp_path: Path):
    for name, field in (("right.py", "network"), ("wrong.py", "netwrok")):
        (tmp_path / name).write_text(READS_A_FIELD.format(field=field))
    command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml")]
    checked = subprocess.run(
        [*command, "--cache-dir", str(tmp_path / "cache"), "right.py", "wrong.py"],
        cwd=tmp_path,
        env=os.environ | {"MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    message, summary = checked.stdout.splitlines()
    assert message == 'wrong.py:6: error: "TrialAsked" has no attribute "netwrok"; maybe "network"?  [attr-defined]'
    assert summary == "Found 1 error in 1 file (checked 2 source files)"
