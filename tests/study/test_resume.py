"""A study killed in the middle goes on, and comes to what it would have come to."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from hiri_search.cli.main import main

pytestmark = pytest.mark.waits
ROOT = Path(__file__).parents[2]
STUDY = """
nets:
  small: hr(32 e=4) -> hr(64 e=4) -> t(128 e=2)
  other: hr(32 e=4) -> cffn(64 e=4) -> t(128 e=2)
  third: hr(32 e=4) -> t(64 e=4) -> t(128 e=2)
counted: {side: 64, classes: 10}
proxy: {width: 4, side: 32, classes: 4}
data: {source: drawn, train: 64, val: 32}
recipe: {epochs: 5, batch: 16, mixup: 0.2, cutmix: 1.0, erasing: 0.2, drop_path: 0.1}
seeds: 2
"""
TIMES = ("seconds", "seconds_waiting", "images_per_second")
PATIENCE = 120  # seconds


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run once to the end, in one process."""
    folder = tmp_path_factory.mktemp("unbroken")
    _run_here(_given(folder, "--serial"))
    return folder / "results"


def _given(folder: Path, *flags: str) -> list[str]:
    study = folder / "study.yaml"
    study.write_text(STUDY)
    return [str(study), "--results", str(folder / "results"), *flags]


def _run_here(given: list[str]) -> None:
    """The command in this process, which has its imports."""
    with pytest.raises(SystemExit) as ended:
        main(["run", *given])
    assert ended.value.code == 0


@pytest.mark.parametrize("flags", [pytest.param(("--serial",), marks=pytest.mark.slow), ()], ids=["serial", "ray"])
def test_kill_9_of_the_group_loses_nothing(tmp_path: Path, unbroken: Path, flags: tuple[str, ...]):
    ledger = tmp_path / "results" / "ledger.jsonl"
    given = _given(tmp_path, *flags)
    command = [sys.executable, "run_study.py", *given]
    process = subprocess.Popen(
        command, cwd=ROOT, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _wait_until(lambda: _in_the_middle(ledger), process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = _events(ledger)

    _run_here(given)

    after = _events(ledger)[len(before) :]
    finished = {event["trial"] for event in before if event["event"] == "finished"}
    assert finished
    assert not finished & {event["trial"] for event in after if "trial" in event}, "a finished trial ran again"
    told = Counter((event["trial"], event["epoch"]) for event in before + after if event["event"] == "epoch")
    assert max(told.values()) == 1, "an epoch that was told ran again"
    assert _table(tmp_path / "results") == _table(unbroken)
    assert _file(tmp_path / "results", "networks.csv") == _file(unbroken, "networks.csv")


def _wait_until(holds, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + PATIENCE
    while not holds():
        assert process.poll() is None, "the study ended before it could be killed"
        assert time.monotonic() < end, "the study came to nothing"
        time.sleep(0.02)


def _in_the_middle(ledger: Path) -> bool:
    """One trial is finished and another is under way."""
    if not ledger.exists():
        return False
    events = _events(ledger)
    finished = {event["trial"] for event in events if event["event"] == "finished"}
    begun = {event["trial"] for event in events if event["event"] == "epoch"}
    return bool(finished) and bool(begun - finished)


def _events(ledger: Path) -> list[dict[str, object]]:
    whole = ledger.read_text().rpartition("\n")[0]
    return [json.loads(line) for line in whole.splitlines()]


def _file(results: Path, name: str) -> str:
    return (results / "report" / name).read_text()


def _table(results: Path) -> list[dict[str, str]]:
    """All trials, but for how long they took."""
    with (results / "report" / "trials.csv").open() as file:
        return [{name: cell for name, cell in row.items() if name not in TIMES} for row in csv.DictReader(file)]
