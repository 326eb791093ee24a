"""Status of a study from its ledger, while it runs and afterwards."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import many
import pytest

from hiri_search.cli.main import main
from hiri_search.study.config.read import read_study
from hiri_search.study.dispatch.serial_dispatcher import run_serially
from hiri_search.study.errors import StudyError
from hiri_search.study.ledger.events import (
    Event,
    RunEnded,
    TrialBegan,
    TrialFailed,
    TrialLost,
    TrialOutOfMemory,
    TrialStopped,
)
from hiri_search.study.ledger.layout import LEDGER_LOCK
from hiri_search.study.ledger.ledger import read_events, trials
from hiri_search.study.ledger.lock import locked
from hiri_search.study.ledger.trial import Trial
from hiri_search.study.run import run
from hiri_search.study.status import RUNNING, SILENCE, RunningTrial, Status, status, status_lines
from tests.study.records import append, asked, network, study_started
from tests.study.search.searches import ROWS, Quiet

NOBODY = 65534


def _add(folder: Path, *events: Event, ago: float = 0.0) -> None:
    append(folder, *(replace(event, time=time.time() - ago) for event in events))


def _asked(number: int) -> Event:
    return asked(number, network(f"network {number}"))


def _began(number: int) -> Event:
    return TrialBegan(trial=number, device=many.DEVICE)


def _states(state: Status) -> dict[str, int]:
    return {name: count for name, count in state.states.items() if count}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A search for twenty networks: twelve trials have ended, one of them failed, and one more has begun."""
    many.write(many.search(20), tmp_path, 12)
    _add(tmp_path, _asked(12), _began(12))
    return tmp_path


# ---- states


def test_a_begun_trial_is_running_while_a_process_holds_the_folder(folder: Path):
    assert _states(status(folder)) == {"finished": 11, "failed": 1, "unfinished": 1}
    with locked(folder):
        found = status(folder)
    assert _states(found) == {"finished": 11, "failed": 1, RUNNING: 1}
    assert found.busy == (RunningTrial(12, "network 12", 0, many.DEVICE),)
    assert found.wanted == 20


@pytest.mark.parametrize(
    "end",
    [
        TrialLost(trial=12, fault="process", reason="killed"),
        TrialOutOfMemory(trial=12, reason="too large"),
        study_started(many.search(20)),
    ],
    ids=["lost", "out of memory", "another run"],
)
def test_a_lost_trial_is_not_running_until_it_begins_again(folder: Path, end: Event):
    _add(folder, end)
    with locked(folder):
        assert _states(status(folder)) == {"finished": 11, "failed": 1, "unfinished": 1}
        _add(folder, _began(12))
        assert _states(status(folder))[RUNNING] == 1


def test_paused_and_stopped_trials(tmp_path: Path):
    many.write(many.search(12, halving={"epochs": [2], "keep": 0.34}), tmp_path, 12)
    assert _states(status(tmp_path)) == {"finished": 4, "paused": 8}
    _add(tmp_path, TrialStopped(trial=1))
    assert _states(status(tmp_path)) == {"finished": 4, "paused": 7, "stopped": 1}


# ---- running or not


def test_the_lock_shows_if_a_process_runs_the_study(folder: Path):
    assert (status(folder).running, status(folder).holder.who) == (False, "")
    with locked(folder):
        assert f"running: process {os.getpid()} on" in "\n".join(status_lines(status(folder)))
    assert f"not running: process {os.getpid()} on" in "\n".join(status_lines(status(folder)))


@pytest.mark.parametrize(("ago", "running"), [(0.0, True), (SILENCE + 60, False)])
def test_recent_events_stand_for_the_lock_of_another_machine(folder: Path, ago: float, running: bool):
    (folder / LEDGER_LOCK).write_text("7 on elsewhere")
    _add(folder, _began(12), ago=ago)
    found = status(folder)
    assert found.running == running
    text = "\n".join(status_lines(found))
    if running:
        assert "running: process 7 on elsewhere (judged by recent events)" in text
    else:
        assert "not running, as far as this machine can see: process 7 on elsewhere was the last" in text
    _add(folder, RunEnded(seconds={}))
    assert not status(folder).running


# ---- front, failures


def test_the_front_holds_the_non_dominated_networks_the_cheapest_first(folder: Path):
    done = [t for t in trials(read_events(folder)) if t.state == "finished"]
    points = [(t.curve[-1].scores["top1"], t.network.macs / 1e9, t.network.name) for t in done]
    best = [p for p in points if not any(o[0] >= p[0] and o[1] <= p[1] and o[:2] != p[:2] for o in points)]
    found = [(member["top1"], member["gmacs"], member["name"]) for member in status(folder).front]
    assert found == sorted(best, key=lambda point: point[1])


def test_the_front_of_an_ablation_compares_means_over_seeds(tmp_path: Path):
    many.write(many.ablation(4, 2), tmp_path, 8)
    done = trials(read_events(tmp_path))
    for member in status(tmp_path).front:
        tops = [t.curve[-1].scores["top1"] for t in done if t.network.name == member["name"]]
        assert member["top1"] == pytest.approx(sum(tops) / len(tops))
        assert member["seeds"] == len(tops) == 2


def test_failures_with_the_same_reason_are_grouped(tmp_path: Path):
    many.write(many.search(40), tmp_path, 40)
    _add(tmp_path, _asked(40), TrialFailed(trial=40, reason="OSError: gone\nmore"))
    first, second = status(tmp_path).failures
    assert (first.times, first.trials, first.devices) == (4, (9, 19, 29, 39), (many.DEVICE,))
    assert (second.times, second.trials, second.devices) == (1, (40,), ())
    said = "\n".join(status_lines(status(tmp_path)))
    assert f"4 x ValueError: the loss of step 9 is not finite (trials 9, 19, 29, 39, on {many.DEVICE})" in said
    assert "1 x OSError: gone ... (trials 40)" in said


def test_lost_trials_are_listed_although_they_continued(folder: Path):
    lost = TrialLost(trial=12, fault="process", reason="its process died: killed")
    _add(folder, lost, _began(12), lost)
    (found,) = status(folder).lost
    assert (found.reason, found.times, found.trials) == ("its process died: killed", 2, (12,))


# ---- text and JSON


def test_before_the_first_trial(tmp_path: Path):
    many.write(many.search(5), tmp_path, 0)
    said = "\n".join(status_lines(status(tmp_path)))
    assert "trials: none yet; 0 of 5 asked for" in said
    assert "throughput: unknown yet" in said
    assert "time left: unknown yet" in said


def test_throughput_counts_finished_trials_and_epochs(folder: Path):
    done = status(folder).done
    assert (done.trials, done.epochs) == (11, 66)
    assert "time left" in "\n".join(status_lines(status(folder)))


def test_long_lists_are_cut_in_the_text_and_complete_in_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    study = many.search(30, objectives=["top1", "gmacs", "mparams"])
    many.write(study, tmp_path, 30)
    with pytest.raises(SystemExit):
        main(["status", str(tmp_path), "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told == json.loads(json.dumps(status(tmp_path).to_json() | {"silent": told["silent"]}))
    assert set(told["front"][0]) == {"name", "seeds", "top1", "gmacs", "mparams"}
    with pytest.raises(SystemExit):
        main(["status", str(tmp_path)])
    assert f"front so far ({len(told['front'])}):" in capsys.readouterr().out


def test_a_folder_without_a_ledger_is_an_error_with_advice(tmp_path: Path):
    with pytest.raises(StudyError, match=r"holds no ledger\.jsonl; give the folder of a study"):
        status(tmp_path)


# ---- read-only


@contextmanager
def _as_nobody() -> Iterator[None]:
    """Drop root, which ignores permissions."""
    if os.geteuid():
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def test_status_needs_no_write_permission_and_changes_nothing(folder: Path):
    with locked(folder):
        pass
    home = Path(tempfile.mkdtemp())
    place = Path(shutil.copytree(folder, home / "results"))
    for path in (home, place, *place.iterdir()):
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = _snapshot(place)
    try:
        with _as_nobody():
            assert not os.access(place, os.W_OK, effective_ids=True)
            assert status(place).states["finished"] == 11
        assert _snapshot(place) == before
    finally:
        home.chmod(0o755)
        place.chmod(0o755)
        shutil.rmtree(home)


def _snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in (folder, *folder.rglob("*"))
    }


STUDY = f"""{ROWS}proxy: {{width: 4, side: 32, classes: 4}}
data: {{source: drawn, train: 32, val: 16}}
recipe: {{epochs: 3, batch: 16, warmup_epochs: 0, ema: 0.0}}
seeds: 1
"""


def test_status_during_a_real_run(tmp_path: Path):
    """Read at every event of a trial."""
    (tmp_path / "study.yaml").write_text(STUDY)
    results, seen = tmp_path / "results", list[Status]()

    class Looker(Quiet):
        def on_trial(self, trial: Trial) -> None:
            seen.append(status(results))

    run(read_study(tmp_path / "study.yaml"), results, run_serially, Looker(), profile="none")
    assert all(found.running and found.wanted == 2 for found in seen)
    assert [found.states["finished"] for found in seen] == sorted(found.states["finished"] for found in seen)
    at_work = [[(busy.trial, busy.epochs) for busy in found.busy] for found in seen]
    assert [(0, 2)] in at_work
    assert [(1, 1)] in at_work
    assert any(found.seconds_left and found.seconds_left[1] > 0 for found in seen)
    end = status(results)
    assert (_states(end), end.running, end.seconds_left) == ({"finished": 2}, False, (0.0, 0.0))


SEARCH = """
space: hr(16|32|64 e=4)
search: {networks: 50, sampler: random}
counted: {side: 64, classes: 10}
proxy: {width: 2, side: 32, classes: 2}
data: {source: drawn, train: 32, val: 16}
recipe: {epochs: 2, batch: 16, warmup_epochs: 0}
"""
SMALL_SPACES = {
    "a space": ("", 3),
    "a space under a constraint": ("within: {gmacs: ..0.012}\n", 2),
    "a space with seeds, and confirmations": (
        "seeds: 2\nconfirm: {top: 1, partners: 9, seeds: 1, epochs: x2}\n",
        3 * 2 + 1,
    ),
}


@pytest.mark.parametrize(("more", "count"), SMALL_SPACES.values(), ids=SMALL_SPACES)
def test_nothing_is_left_of_a_search_that_has_used_up_its_space(more: str, count: int, tmp_path: Path):
    (tmp_path / "study.yaml").write_text(SEARCH + more)
    run(read_study(tmp_path / "study.yaml"), tmp_path / "results", run_serially, Quiet(), profile="none")
    said = "\n".join(status_lines(status(tmp_path / "results")))
    assert f"{count} of {count} asked for" in said
    assert "time left: none" in said
