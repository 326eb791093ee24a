"""The command `calibrate`: small real trainings, a kill, a clone without checkpoints, the report."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from hiri_search.cli.main import main
from hiri_search.study.ledger.events import TrialAsked, TrialFinished
from hiri_search.study.ledger.layout import CALIBRATION, LEDGER
from hiri_search.study.ledger.ledger import of_kind, read_events
from tests.study.waiting import wait_until

pytestmark = pytest.mark.waits
ROOT = Path(__file__).parents[2]
STUDY = """
title: A small calibration
space: (hr | cffn)(32|48 e=2|4) -> (hr | t)(64|128 e=2|4) -> t(128|192 e=2|4)
counted: {side: 64, classes: 10}
proxy: {width: 8, side: 32, classes: 4}
data: {source: drawn, train: 32, val: 32}
recipe: {epochs: 1, batch: 16, warmup_epochs: 0}
calibrate:
  networks: 6
  reference: {recipe: {epochs: 2}, seeds: 2}
  settings: {short: {seeds: 1}}
"""
SEGMENTATION = """
title: A small calibration under UPerNet
task: segmentation
space: hr(16|32 e=2) -> hr(16|32 e=2) -> hr(32 e=2) -> (cffn(32|64 e=2) | t(32|64 e=2 d=16))
counted: {side: 64x64}
proxy: {width: 2, side: 32}
data: {source: drawn, train: 8, val: 4}
recipe: {epochs: 1, batch: 4, warmup_epochs: 0}
calibrate:
  networks: 2
  bands: 1
  nets: {own: hr(16 e=2) -> hr(16 e=2) -> hr(32 e=2) -> cffn(32 e=2)}
  reference: {recipe: {epochs: 2}, seeds: 1}
  settings: {short: {seeds: 1}}
"""
SETTINGS = {"short": 6, "reference": 12}  # trainings


def test_a_killed_calibration_goes_on_and_says_what_it_found(tmp_path: Path):
    (tmp_path / "study.yaml").write_text(STUDY)
    given = ["calibrate", str(tmp_path / "study.yaml"), "--serial", "-o", str(tmp_path / "results")]
    reference = tmp_path / "results" / "reference"
    _kill_when_it_trains(given, reference)
    before = {name: _finished(tmp_path / "results" / name) for name in SETTINGS}
    assert before["short"].total() == 6
    drawn = (tmp_path / "results" / CALIBRATION).read_text()

    clone = tmp_path / "clone"  # as git has it: no checkpoints, no locks, no report
    for path in (tmp_path / "results").rglob("*.json*"):
        (clone / path.relative_to(tmp_path / "results")).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, clone / path.relative_to(tmp_path / "results"))
    _main([*given[:-1], str(clone)])

    assert (clone / CALIBRATION).read_text() == drawn
    for name, trainings in SETTINGS.items():
        finished = _finished(clone / name)
        assert (finished.total(), max(finished.values())) == (trainings, 1), "each training once"
    table = pd.read_csv(clone / "report" / "calibration.csv").set_index("setting")
    assert list(table.index[:3]) == ["short", "GFLOPs", "params"]
    assert table.loc["short", ["networks", "pairs", "verdict"]].tolist() == [6, 3, "too few to tell"]
    assert table.loc["short", "work_of_reference"] == 0.25
    assert {"synflow", "naswot", "zen", "reference: seed 0 against seed 1"} <= set(table.index)

    _main(["verify", str(clone / "reference"), "--quick"])


@pytest.mark.slow
def test_networks_for_segmentation_are_calibrated_by_their_own_score(tmp_path: Path):
    (tmp_path / "study.yaml").write_text(SEGMENTATION)
    _main(["calibrate", str(tmp_path / "study.yaml"), "--serial", "-o", str(tmp_path / "results")])
    table = pd.read_csv(tmp_path / "results" / "report" / "calibration.csv").set_index("setting")
    assert table.loc["short", ["networks", "work_of_reference"]].tolist() == [3, 0.5]
    assert {"GFLOPs", "params"} <= set(table.index)
    assert "mIoU" in (tmp_path / "results" / "report" / "calibration.md").read_text()


def test_another_draw_needs_another_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "study.yaml").write_text(STUDY)
    record = {"title": "", "settings": ["short", "reference"], "bands": [], "drawn_from": {"seed": 1}}
    (tmp_path / CALIBRATION).write_text(json.dumps(record))
    _main(["report", str(tmp_path)])
    assert "the report follows when the reference has begun" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        main(["calibrate", str(tmp_path / "study.yaml"), "-o", str(tmp_path)])
    assert "were drawn with other values of" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["calibrate", str(tmp_path / "study.yaml"), "-o", str(tmp_path / "new"), "--only", "shrt"])
    assert "--only shrt: there is no such setting; write some of short, reference" in capsys.readouterr().err


def _kill_when_it_trains(given: list[str], folder: Path) -> None:
    """Kill the command when it has finished a first training in a results folder, and begun a second."""
    command = [sys.executable, "-W", "ignore", "-m", "hiri_search", *given]
    with subprocess.Popen(command, cwd=ROOT, start_new_session=True, stdout=subprocess.DEVNULL) as process:
        wait_until(lambda: _in_the_middle(folder), alive=lambda: process.poll() is None)
        os.killpg(process.pid, signal.SIGKILL)


def _in_the_middle(folder: Path) -> bool:
    if not (folder / LEDGER).exists():
        return False
    events = read_events(folder)
    return 0 < len(of_kind(events, TrialFinished)) < len(of_kind(events, TrialAsked))


def _finished(folder: Path) -> Counter[int]:
    """Return how many times each training of a results folder has finished."""
    return Counter(event.trial for event in of_kind(read_events(folder), TrialFinished))


def _main(given: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(given)
    assert ended.value.code == 0
