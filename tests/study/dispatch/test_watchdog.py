"""The watchdog kills a process that makes no progress, and no other."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hiri_search.study.dispatch.watchdog import STACK_FILE, take_stack

pytestmark = pytest.mark.waits
BEGIN = """
import ctypes, os, signal, sys, time
from pathlib import Path
from hiri_search.study.dispatch.watchdog import watched
with watched(1.0, Path(sys.argv[1])) as watchdog:
"""
HANGS = {
    "in Python": "def stands_still():\n        time.sleep(60)\n    stands_still()",
    "with Python's lock": "def stands_still():\n        ctypes.PyDLL(None).sleep(60)\n    stands_still()",
}
ENDS = {
    "with heartbeats": "for _ in range(25):\n        time.sleep(0.1)\n        watchdog.heartbeat()",
    "without a watchdog": "os.system(f'pkill -9 -P {os.getpid()}')\n    time.sleep(2)\n    watchdog.heartbeat()",
    "at once": "pass",
}


def _run(code: str, folder: Path) -> int:
    command = [sys.executable, "-c", f"{BEGIN}    {code}\nprint('ended')", str(folder / STACK_FILE)]
    return subprocess.run(command, timeout=60).returncode


@pytest.mark.parametrize("code", HANGS.values(), ids=HANGS)
def test_a_process_that_hangs_is_killed_and_its_stack_is_kept(code: str, tmp_path: Path):
    assert _run(code, tmp_path) == -signal.SIGKILL
    first, _, stack = take_stack(tmp_path / "last.pt").partition("\n")
    assert first == "no step for 1 s"
    assert "stands_still" in stack
    assert not take_stack(tmp_path / "last.pt")


def test_a_frozen_process_is_killed(tmp_path: Path):
    assert _run("os.kill(os.getpid(), signal.SIGSTOP)", tmp_path) == -signal.SIGKILL
    assert "frozen" in take_stack(tmp_path / "last.pt")


def test_a_process_is_killed_where_no_stack_can_be_written(tmp_path: Path):
    assert _run(HANGS["in Python"], tmp_path / "missing") == -signal.SIGKILL


@pytest.mark.parametrize("code", ENDS.values(), ids=ENDS)
def test_another_process_lives(code: str, tmp_path: Path):
    assert _run(code, tmp_path) == 0
    assert not take_stack(tmp_path / "last.pt")
