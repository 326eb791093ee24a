"""A study on several machines, and several drivers on one study."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from hiri_search.study.config.read import read_study
from hiri_search.study.dispatch.ray_executor import run_on_ray
from hiri_search.study.dispatch.resources import TrialResources
from hiri_search.study.dispatch.serial_executor import run_serially
from hiri_search.study.ledger.ledger import read_events
from hiri_search.study.run import run
from hiri_search.system.shutdown import Shutdown
from tests.study.dispatch import fake_work as works
from tests.study.dispatch.machines import machines
from tests.study.search.searches import ROWS, Quiet

pytestmark = [pytest.mark.waits, pytest.mark.slow]  # each starts five processes or more that import torch
ROOT = Path(__file__).parents[3]
NODES = 3
STUDY = f"""{ROWS}proxy: {{width: 4, side: 32, classes: 4}}
data: {{source: drawn, train: 192, val: 32}}
recipe: {{epochs: 6, batch: 16, warmup_epochs: 0, mixup: 0.2, drop_path: 0.1}}
seeds: 2
"""
DIGITS = ("epoch", "loss", "lr", "top1", "top5", "ema_top1")
PATIENCE = 120  # seconds
TAKE_OVER = 5.0  # seconds


def _on(folder: Path, address: str | None) -> None:
    """Run the study, on a cluster or in this process."""
    (folder / "study.yaml").write_text(STUDY)

    def execute(feed: Any) -> None:
        if address is None:
            run_serially(feed)
        else:
            run_on_ray(feed, TrialResources(0), folder / "ray.log", Shutdown(), address=address, do=works.traced)

    run(read_study(folder / "study.yaml"), folder / "results", execute, Quiet(), profile="none")


def test_a_node_lost_in_mid_trial_costs_one_epoch_at_most_and_no_digit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("alone", "nodes"):
        (tmp_path / name).mkdir()
    _on(tmp_path / "alone", None)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with (
        machines(
            NODES, head={"num_cpus": 0, "include_dashboard": False}, PYTHONPATH=str(Path(works.__file__).parents[3])
        ) as there,
        ProcessPoolExecutor(1, mp_context=get_context("spawn")) as another,
    ):
        running = another.submit(_on, tmp_path / "nodes", there.address)
        _wait(lambda: running.done() or len(_under_way(tmp_path / "nodes" / "results")) == NODES)
        there.lose(0)
        running.result(PATIENCE)
        assert there.alive() == NODES  # with the head
    events = read_events(tmp_path / "nodes" / "results")
    assert [event for event in events if event["event"] == "lost"], "the node had a trial"
    assert _curves(events) == _curves(read_events(tmp_path / "alone" / "results"))
    trained = Counter((tmp_path / "nodes" / "results" / "trace").read_text().splitlines())
    repeated = Counter(line.split()[0] for line in (trained - Counter(set(trained))).elements())
    assert all(count == 1 for count in repeated.values()), "more than an epoch was trained again"


def _under_way(results: Path) -> set[int]:
    """Trials that have ended an epoch, and are not finished."""
    events = read_events(results) if (results / "ledger.jsonl").exists() else []
    told = {name: {event["trial"] for event in events if event["event"] == name} for name in ("epoch", "finished")}
    return told["epoch"] - told["finished"]


def _curves(events: list[dict[str, Any]]) -> dict[tuple[str, int], list[list[float]]]:
    names = {event["trial"]: (event["name"], event["seed"]) for event in events if event["event"] == "asked"}
    return {
        names[event["trial"]]: [[epoch[name] for name in DIGITS] for epoch in event["curve"]]
        for event in events
        if event["event"] == "finished"
    }


def _wait(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, "nothing comes of it"
        time.sleep(0.02)


# ---- several drivers


def _start(folder: Path) -> subprocess.Popen[str]:
    (folder / "study.yaml").write_text(STUDY.replace("epochs: 6", "epochs: 10000"))
    command = [sys.executable, "run_study.py", str(folder / "study.yaml"), "--results", str(folder / "results")]
    command += ["--serial"]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_of_five_drivers_one_runs_and_when_it_is_killed_the_next_takes_over(tmp_path: Path):
    five = [_start(tmp_path) for _ in range(5)]
    try:
        _wait(lambda: sum(one.poll() is not None for one in five) == 4)
        (first,) = (one for one in five if one.poll() is None)
        for one in five:
            if one is not first:
                _, error = one.communicate()
                assert one.returncode == 2
                assert error.startswith(f"error: {tmp_path / 'results'} is in use by process {first.pid} on ")
                assert len(error.splitlines()) == 1
        first.send_signal(signal.SIGKILL)
        five.append(_start(tmp_path))
        assert five[-1].stdout
        assert five[-1].stdout.readline().startswith("profile none")  # it has found its imports
        ready = time.monotonic()
        _wait(lambda: (tmp_path / "results" / "ledger.lock").read_text().startswith(f"{five[-1].pid} on "))
        assert time.monotonic() - ready < TAKE_OVER
    finally:
        for one in five:
            if one.poll() is None:
                os.kill(one.pid, signal.SIGKILL)
            one.communicate()
    began = [json.loads(line)["event"] for line in (tmp_path / "results" / "ledger.jsonl").read_text().splitlines()]
    assert began.count("study") <= 2
