"""A killed study continues and reaches the same results."""

import csv
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from hiri_search.cli.main import main
from hiri_search.study.ledger.events import EpochEnded, Event, TrialEvent, TrialFinished
from hiri_search.study.ledger.layout import LEDGER
from hiri_search.study.ledger.ledger import of_kind, read_events
from tests.study.waiting import wait_until

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
    """Run the command in this process, which has done its imports."""
    with pytest.raises(SystemExit) as ended:
        main(["run", *given])
    assert ended.value.code == 0


@pytest.mark.slow
@pytest.mark.parametrize("flags", [("--serial",), ()], ids=["serial", "ray"])
def test_a_study_that_was_killed_loses_no_epoch_and_no_digit(tmp_path: Path, unbroken: Path, flags: tuple[str, ...]):
    results = tmp_path / "results"
    given = _given(tmp_path, *flags)
    command = [sys.executable, "run_study.py", *given]
    process = subprocess.Popen(
        command, cwd=ROOT, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    wait_until(lambda: _in_the_middle(results), alive=lambda: process.poll() is None)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = read_events(results)

    _run_here(given)

    after = read_events(results)[len(before) :]
    finished = _trials(before, TrialFinished)
    assert finished
    assert not finished & _trials(after, TrialEvent), "a finished trial ran again"
    epochs = Counter((event.trial, event.result.epoch) for event in of_kind([*before, *after], EpochEnded))
    assert max(epochs.values()) == 1, "a reported epoch ran again"
    assert _table(results) == _table(unbroken)
    assert _file(results, "networks.csv") == _file(unbroken, "networks.csv")


def _in_the_middle(results: Path) -> bool:
    """Return true if one trial is finished and another one has an epoch."""
    if not (results / LEDGER).exists():
        return False
    events = read_events(results)
    finished = _trials(events, TrialFinished)
    return bool(finished) and bool(_trials(events, EpochEnded) - finished)


def _trials(events: Sequence[Event], kind: type[TrialEvent]) -> set[int]:
    return {event.trial for event in of_kind(events, kind)}


def _file(results: Path, name: str) -> str:
    return (results / "report" / name).read_text()


def _table(results: Path) -> list[dict[str, str]]:
    """Return the rows of trials.csv without durations."""
    with (results / "report" / "trials.csv").open() as file:
        return [{name: cell for name, cell in row.items() if name not in TIMES} for row in csv.DictReader(file)]
