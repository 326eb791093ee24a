"""Checkpoints on disk during a study, at its end, and after a killed run."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from hiri_search.api.folders import read_results
from hiri_search.study.config.read import read_study
from hiri_search.study.dispatch.serial_dispatcher import run_serially
from hiri_search.study.dispatch.task import Heartbeat, Report, TrialFunction, TrialSource, TrialTask
from hiri_search.study.ledger.events import TrialFailed, TrialFinished, TrialPaused
from hiri_search.study.ledger.ledger import of_kind, read_events, trials
from hiri_search.study.ledger.trial import Trial, training_digest
from hiri_search.study.persistence.checkpoints import existing
from hiri_search.study.run import run
from hiri_search.study.scheduler.scheduler import MAX_REASON, MAX_TRACEBACK
from tests.study.records import epoch
from tests.study.search.searches import Quiet

SMALL = """
counted: {side: 64, classes: 10}
proxy: {width: 4, side: 32, classes: 4}
data: {source: drawn, train: 32, val: 16}
recipe: {epochs: 2, batch: 16, warmup_epochs: 0, ema: 0.0}
"""
ABLATION = "nets:\n  small: hr(32 e=4) -> hr(64 e=4)\n  other: hr(32 e=4) -> cffn(64 e=4)\nseeds: 2" + SMALL
SEARCH = "space: hr(32 e=4|6)*1..2 -> (hr | cffn)(64 e=4)*1..2\nsearch: {sampler: random, networks: 8}" + SMALL
TOP1 = (50, 40, 90, 10, 60, 95, 20, 30)


def fake_training(
    task: TrialTask, report: Report, heartbeat: Heartbeat, *, shared_gpu: bool, failing: tuple[int, ...] = ()
) -> None:
    """Write a checkpoint and report an end, without training."""
    last = task.until or task.job.recipe.epochs
    curve = tuple(epoch(n, TOP1[task.trial % len(TOP1)] + n) for n in range(1, last + 1))
    task.checkpoint.parent.mkdir(exist_ok=True)
    task.checkpoint.write_bytes(b"weights")
    if task.trial in failing:
        report(TrialFailed(trial=task.trial, reason="x" * 10_000, traceback="y" * 100_000))
        return
    end = TrialFinished if last == task.job.recipe.epochs else TrialPaused
    report(end(trial=task.trial, curve=curve))


def _run(
    folder: Path,
    text: str,
    *sets: str,
    trial_function: TrialFunction = fake_training,
    dispatch: Callable[[TrialSource], None] | None = None,
) -> list[Trial]:
    folder.mkdir(exist_ok=True)
    (folder / "study.yaml").write_text(text)
    study = read_study(folder / "study.yaml", sets=sets)
    run(study, folder, dispatch or partial(run_serially, trial_function=trial_function), Quiet(), profile="none")
    return trials(read_events(folder))


def _front(done: list[Trial]) -> set[str]:
    """Digests of the trials on the Pareto front, by comparing all pairs."""
    points = {training_digest(t): (-t.curve[-1].scores["top1"], t.network.macs) for t in done if t.state == "finished"}
    return {
        digest
        for digest, point in points.items()
        if not any(a <= point[0] and b <= point[1] and (a, b) != point for a, b in points.values())
    }


def test_an_ablation_keeps_the_checkpoints_of_all_rows(tmp_path: Path):
    assert existing(tmp_path) == set()
    assert existing(tmp_path) | {training_digest(t) for t in _run(tmp_path, ABLATION)} == existing(tmp_path)
    assert len(existing(tmp_path)) == 4


def test_a_search_keeps_the_checkpoints_of_its_front(tmp_path: Path):
    done = _run(tmp_path, SEARCH)
    assert existing(tmp_path) == _front(done)
    assert 0 < len(existing(tmp_path)) < len(done)


@pytest.mark.parametrize("text", [ABLATION, SEARCH], ids=["ablation", "search"])
@pytest.mark.parametrize(("rule", "share"), [("all", 1), ("none", 0)])
def test_the_rules_all_and_none_keep_all_and_none(tmp_path: Path, text: str, rule: str, share: int):
    done = _run(tmp_path, text, f"checkpoints={rule}")
    assert len(existing(tmp_path)) == share * len(done)


def test_the_rule_may_change_between_two_runs_of_a_study(tmp_path: Path):
    done = _run(tmp_path, SEARCH, "checkpoints=all")
    assert _run(tmp_path, SEARCH, "checkpoints=all") == done
    assert len(existing(tmp_path)) == len(done)
    _run(tmp_path, SEARCH)
    assert existing(tmp_path) == _front(done)
    _run(tmp_path, SEARCH, "checkpoints=none")
    assert existing(tmp_path) == set()


def test_the_table_of_trials_names_only_existing_checkpoints(tmp_path: Path):
    done = _run(tmp_path, SEARCH)
    rows = read_results(tmp_path).trials
    assert {row["checkpoint"] for row in rows} == {
        None,
        *(t.asked.checkpoint for t in done if training_digest(t) in existing(tmp_path)),
    }
    assert all((tmp_path / row["checkpoint"]).exists() for row in rows if row["checkpoint"])


def test_a_failed_trial_keeps_its_checkpoint(tmp_path: Path):
    done = _run(tmp_path, SEARCH, trial_function=partial(fake_training, failing=(1, 3)))
    assert {training_digest(done[1]), training_digest(done[3])} < existing(tmp_path)
    assert existing(tmp_path) == _front(done) | {training_digest(done[1]), training_digest(done[3])}


def test_long_reasons_and_tracebacks_of_a_failure_are_shortened(tmp_path: Path):
    done = _run(tmp_path, SEARCH, trial_function=partial(fake_training, failing=(1,)))
    assert done[1].reason.count("x") == MAX_REASON
    (failed,) = of_kind(read_events(tmp_path), TrialFailed)
    assert failed.traceback.count("y") == MAX_TRACEBACK
    assert "y [92,000 characters] y" in failed.traceback


def test_a_trial_that_is_paused_at_a_rung_keeps_its_checkpoint_until_it_is_stopped(tmp_path: Path):
    kept: list[bool] = []

    def dispatch(source: TrialSource) -> None:
        while isinstance(task := source.next(), TrialTask):
            kept.extend(path.exists() for path in paused.values())
            paused.pop(task.trial, None)
            if task.until:
                paused[task.trial] = task.checkpoint
            fake_training(task, source.on_event, lambda: None, shared_gpu=False)

    paused: dict[int, Path] = {}
    done = _run(tmp_path, SEARCH, "search.halving={epochs: [1], keep: 0.3}", dispatch=dispatch)
    assert len(kept) > 8
    assert all(kept)
    assert {t.state for t in done} == {"finished", "stopped"}
    assert existing(tmp_path) == _front(done)


def test_a_search_keeps_the_checkpoints_of_confirmation_trials(tmp_path: Path):
    done = _run(tmp_path, SEARCH, "confirm={top: 2, partners: 0, seeds: 2, epochs: x2}")
    confirmations = {training_digest(t) for t in done if t.is_confirmation}
    assert len(confirmations) == 4
    assert existing(tmp_path) == _front([t for t in done if not t.is_confirmation]) | confirmations


def test_equal_trainings_share_a_checkpoint(tmp_path: Path):
    """Stages of one and of two blocks train the same network: the cheaper one dominates, and needs the checkpoint."""
    done = _run(tmp_path, SEARCH, "proxy.depth=2")
    trained = [t for t in done if not t.source]
    assert len(trained) < len(done)
    assert existing(tmp_path) == _front_of_duplicates(done)


def _front_of_duplicates(done: list[Trial]) -> set[str]:
    points = [(-t.curve[-1].scores["top1"], t.network.macs) for t in done]
    dominated = [any(a <= x and b <= y and (a, b) != (x, y) for a, b in points) for x, y in points]
    return {training_digest(t) for t, is_dominated in zip(done, dominated, strict=True) if not is_dominated}


class Killed(BaseException):
    """Stands for a signal that kills the run."""


def test_checkpoints_that_a_killed_run_left_are_removed_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def die_at_trial_5(self: object, trial: Trial) -> None:
        if trial.number == 5:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("hiri_search.study.persistence.checkpoints.CheckpointRetention.ended", die_at_trial_5)
        with pytest.raises(Killed):
            _run(tmp_path, SEARCH)
    assert len(existing(tmp_path)) == 6
    unfinished = next((tmp_path / "checkpoints").glob("*/last.pt")).with_name("last.1.tmp")
    unfinished.write_bytes(b"half")
    done = _run(tmp_path, SEARCH)
    assert existing(tmp_path) == _front(done)
    assert not unfinished.exists()


def test_unknown_checkpoints_stay(tmp_path: Path):
    foreign = tmp_path / "checkpoints" / "mine" / "last.pt"
    foreign.parent.mkdir(parents=True)
    foreign.write_bytes(b"precious")
    _run(tmp_path, SEARCH, "checkpoints=none")
    assert existing(tmp_path) == {"mine"}
