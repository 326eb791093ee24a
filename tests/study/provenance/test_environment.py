"""What a run writes down of itself: enough to make it again, and nothing that is nobody's business."""

from pathlib import Path

import pytest
from hiri_search.study.ledger.checksums import RunningChecksum, misfits, split

from hiri_search.study.provenance.environment import code, run_environment
from hiri_search.study.provenance.run_diff import run_differences
from hiri_search.system.redaction import redacted_command

HOME = str(Path.home())


@pytest.mark.parametrize(
    ("command", "kept"),
    [
        (["/usr/bin/hiri-search", "run", "studies/a.yaml"], "hiri-search run studies/a.yaml"),
        (["x", "--results", f"{HOME}/mine"], "x --results ~/mine"),
        (["x", "--set", "title=two words"], "x --set 'title=two words'"),
        (["x", "--address", "ray://me:word@host:1"], "x --address ray://***@host:1"),
        (["x", "--set", "data.token=abc"], "x --set data.token=***"),
        (["x", "--api-key", "abc", "y"], "x --api-key *** y"),
        (["x", "https://host/?api_key=abc&b=c"], "x 'https://host/?***'"),
        ([], ""),
    ],
)
def test_a_command_is_kept_without_secrets(command: list[str], kept: str):
    assert redacted_command(command) == kept


def test_code_is_known_by_its_bytes_and_by_git():
    known = code()
    assert known == code()
    assert len(known["digest"]) == 16
    if known["commit"]:
        assert len(known["commit"]) == 40
        assert bool(known["changed"]) == bool(known["diff"])


def test_software_and_machine_are_told():
    told = run_environment([])
    assert told["versions"]["torch"]
    assert told["machine"]["device"]
    assert told["machine"]["system"]


def test_changes_are_told_by_name_and_facts_of_one_alone_are_left_out():
    about = {"file": {"nets": {"one": "hr(32 e=4)"}}, "images": {"val": 8}, "device": "CPU"}
    new = {"file": {"nets": {"one": "hr(32 e=4)"}, "seeds": [0, 1]}, "images": {"val": 9}, "device": "GPU"}
    new["versions"] = {"torch": "3"}
    assert list(run_differences(about, new)) == [
        ("study", "seeds: [0] -> [0, 1]"),
        ("images", "val: 8 -> 9"),
        ("device", "device: CPU -> GPU"),
    ]


# ---- sums


def _ledger(count: int) -> list[bytes]:
    sums, lines = RunningChecksum(), []
    for number in range(count):
        lines.append(sums.signed(b'{"event": "epoch", "n": %d}' % number))
        assert sums.added(lines[-1]) == ""
    return lines


def test_a_line_with_its_sum_is_still_a_line():
    (line,) = _ledger(1)
    content, carried = split(line)
    assert content == b'{"event": "epoch", "n": 0}'
    assert carried
    assert line.endswith(b', "sum": "%s"}' % carried.encode())


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda lines: lines, []),
        (lambda lines: [*lines[:2], lines[2].replace(b'"n": 2', b'"n": 3'), *lines[3:]], [3]),
        (lambda lines: lines[:2] + lines[3:], [3]),
        (lambda lines: lines[1:], [1]),
        (lambda lines: [lines[0], lines[2], lines[1], *lines[3:]], [2, 3, 4]),
        (lambda lines: [*lines, b'{"event": "epoch", "n": 9}'], [6]),
        (lambda lines: [*lines, lines[-1]], [6]),
        (lambda lines: [split(line)[0] for line in lines], []),
        (lambda lines: [*(split(line)[0] for line in lines[:2]), *lines[2:]], []),
    ],
    ids=["nothing", "a digit", "one less", "the first less", "swapped", "one more", "twice", "no sums", "later sums"],
)
def test_each_line_that_does_not_fit_is_named(change, named: list[int]):
    assert [misfit.line for misfit in misfits(change(_ledger(5)))] == named
