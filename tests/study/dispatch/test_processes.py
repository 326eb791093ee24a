"""Trials of several processes through Ray: one that is killed, and the nodes that they are on."""

import os
import signal
from functools import partial
from pathlib import Path
from threading import Thread

import pytest

from hiri_search.api.running import dispatcher
from hiri_search.study.config.read import read_study
from hiri_search.study.dispatch.resources import TrialResources
from hiri_search.study.ledger.events import EpochEnded, TrialBegan, TrialLost
from hiri_search.study.ledger.ledger import of_kind, read_events, trials
from hiri_search.study.ledger.trial import Trial, reproduced
from hiri_search.study.run import run
from hiri_search.system.shutdown import Shutdown
from tests.study.search.searches import Quiet
from tests.study.waiting import wait_until

STUDY = """
nets: {a: hr(8 e=4) -> t(16 e=2 d=8)}
counted: {side: 32, classes: 10}
proxy: {side: 32, classes: 4}
data: {source: drawn, train: 320, val: 32}
recipe: {epochs: 6, batch: 16, warmup_epochs: 0, drop_path: 0.1}
seeds: 1
resources: {processes: 2}
"""
PROCESS = b"ray::rank 1 of a trial"  # its title on Ray


@pytest.mark.parametrize("gpus", [0.0, 4.0])
def test_a_trial_has_as_many_places_as_processes_on_any_nodes(gpus: float):
    resources = TrialResources(0, gpus, cpus=4.0, processes=4)
    node = {"CPU": 3.0, "GPU": 2.0}
    assert [resources.trials([node] * nodes) for nodes in (1, 2, 4)] == ([0, 1, 2] if gpus else [0, 1, 3])


def _run(folder: Path) -> Trial:
    """Run the study through Ray; return its trial."""
    (folder / "study.yaml").write_text(STUDY)
    dispatch = dispatcher(folder / "results", Shutdown(), TrialResources(1, cpus=2.0, processes=2), None)
    run(read_study(folder / "study.yaml"), folder / "results", dispatch, Quiet(), profile="none")
    (trial,) = trials(read_events(folder / "results"))
    return trial


def _kill_after_an_epoch(results: Path) -> None:
    ledger = results / "ledger.jsonl"
    wait_until(lambda: ledger.exists() and b'"event": "epoch"' in ledger.read_bytes())
    (process,) = [file.parent for file in Path("/proc").glob("[0-9]*/cmdline") if PROCESS in _read(file)]
    os.kill(int(process.name), signal.SIGKILL)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:  # the process has ended
        return b""


@pytest.mark.slow
@pytest.mark.waits
def test_a_trial_goes_on_from_its_checkpoint_where_one_of_its_processes_was_killed(tmp_path: Path):
    folders = [tmp_path / name for name in ("unbroken", "killed")]
    for folder in folders:
        folder.mkdir()
    unbroken = _run(folders[0])
    killer = Thread(target=partial(_kill_after_an_epoch, folders[1] / "results"), daemon=True)
    killer.start()
    killed = _run(folders[1])
    killer.join()
    assert reproduced(killed.curve) == reproduced(unbroken.curve)
    events = read_events(folders[1] / "results")
    (lost,) = of_kind(events, TrialLost)
    assert lost.fault == "process"
    assert "another process of the trial died" in lost.reason
    assert [event.result.epoch for event in of_kind(events, EpochEnded)] == [1, 2, 3, 4, 5, 6]
    assert {event.device for event in of_kind(events, TrialBegan)} == {killed.device}
    assert killed.device.startswith("2 processes by gloo, each with CPU")
