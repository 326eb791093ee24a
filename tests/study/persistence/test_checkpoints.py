"""Which checkpoints are on disk when a study has ended, while it goes on, and after it was killed."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from hiri_search.cli.results import read_results
from hiri_search.study.config.read import read_study
from hiri_search.study.dispatch.serial_executor import run_serially
from hiri_search.study.dispatch.task import Heartbeat, Report, TrialSource, TrialTask
from hiri_search.study.dispatch.worker import TrialFunction
from hiri_search.study.ledger.ledger import read_events, trials
from hiri_search.study.ledger.trial import Trial, training_digest
from hiri_search.study.persistence.checkpoints import existing
from hiri_search.study.run import run
from hiri_search.study.scheduler import LONGEST_REASON, LONGEST_TRACEBACK
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


def made_up(
    task: TrialTask, tell: Report, beat: Heartbeat, *, beside_others: bool, failing: tuple[int, ...] = ()
) -> None:
    """Leaves what a training would."""
    last = task.until or task.job.recipe.epochs
    curve = [{"epoch": n, "loss": 1.0, "top1": TOP1[task.trial % len(TOP1)] + n} for n in range(1, last + 1)]
    task.checkpoint.parent.mkdir(exist_ok=True)
    task.checkpoint.write_bytes(b"weights")
    if task.trial in failing:
        tell({"event": "failed", "trial": task.trial, "reason": "x" * 10_000, "traceback": "y" * 100_000})
        return
    tell({"event": "finished" if last == task.job.recipe.epochs else "paused", "trial": task.trial, "curve": curve})


def _run(
    folder: Path,
    text: str,
    *sets: str,
    do: TrialFunction = made_up,
    execute: Callable[[TrialSource], None] | None = None,
) -> list[Trial]:
    folder.mkdir(exist_ok=True)
    (folder / "study.yaml").write_text(text)
    study = read_study(folder / "study.yaml", sets=sets)
    run(study, folder, execute or partial(run_serially, do=do), Quiet(), profile="none")
    return trials(read_events(folder))


def _front(done: list[Trial]) -> set[str]:
    """By hand."""
    points = {training_digest(t): (-t.curve[-1]["top1"], t.asked["macs"]) for t in done if t.state == "finished"}
    return {
        name
        for name, mine in points.items()
        if not any(a <= mine[0] and b <= mine[1] and (a, b) != mine for a, b in points.values())
    }


def test_an_ablation_keeps_those_of_all_its_rows(tmp_path: Path):
    assert existing(tmp_path) == set()
    assert existing(tmp_path) | {training_digest(t) for t in _run(tmp_path, ABLATION)} == existing(tmp_path)
    assert len(existing(tmp_path)) == 4


def test_a_search_keeps_those_of_its_front(tmp_path: Path):
    done = _run(tmp_path, SEARCH)
    assert existing(tmp_path) == _front(done)
    assert 0 < len(existing(tmp_path)) < len(done)


@pytest.mark.parametrize("text", [ABLATION, SEARCH], ids=["ablation", "search"])
@pytest.mark.parametrize(("rule", "share"), [("all", 1), ("none", 0)])
def test_all_or_none_are_kept_where_that_is_asked_for(tmp_path: Path, text: str, rule: str, share: int):
    done = _run(tmp_path, text, f"checkpoints={rule}")
    assert len(existing(tmp_path)) == share * len(done)


def test_another_rule_is_no_other_study_and_holds_from_then_on(tmp_path: Path):
    done = _run(tmp_path, SEARCH, "checkpoints=all")
    assert _run(tmp_path, SEARCH, "checkpoints=all") == done
    assert len(existing(tmp_path)) == len(done)
    _run(tmp_path, SEARCH)
    assert existing(tmp_path) == _front(done)
    _run(tmp_path, SEARCH, "checkpoints=none")
    assert existing(tmp_path) == set()


def test_the_table_of_trials_names_none_that_is_gone(tmp_path: Path):
    done = _run(tmp_path, SEARCH)
    rows = read_results(tmp_path).trials
    assert {row["checkpoint"] for row in rows} == {
        None,
        *(t.asked["checkpoint"] for t in done if training_digest(t) in existing(tmp_path)),
    }
    assert all((tmp_path / row["checkpoint"]).exists() for row in rows if row["checkpoint"])


def test_a_trial_that_may_be_trained_again_keeps_its_own(tmp_path: Path):
    done = _run(tmp_path, SEARCH, do=partial(made_up, failing=(1, 3)))
    assert {training_digest(done[1]), training_digest(done[3])} < existing(tmp_path)
    assert existing(tmp_path) == _front(done) | {training_digest(done[1]), training_digest(done[3])}


def test_what_a_trial_says_of_its_failing_is_kept_short(tmp_path: Path):
    done = _run(tmp_path, SEARCH, do=partial(made_up, failing=(1,)))
    assert done[1].reason.count("x") == LONGEST_REASON
    (failed,) = (event for event in read_events(tmp_path) if event["event"] == "failed")
    assert failed["traceback"].count("y") == LONGEST_TRACEBACK
    assert "y [92,000 characters] y" in failed["traceback"]


def test_who_waits_on_a_rung_keeps_its_own_until_it_is_stopped(tmp_path: Path):
    waiting: list[bool] = []

    def watched(feed: TrialSource) -> None:
        while isinstance(task := feed.next(), TrialTask):
            waiting.extend(place.exists() for place in paused.values())
            paused.pop(task.trial, None)
            if task.until:
                paused[task.trial] = task.checkpoint
            made_up(task, feed.on_event, lambda: None, beside_others=False)

    paused: dict[int, Path] = {}
    done = _run(tmp_path, SEARCH, "search.halving={epochs: [1], keep: 0.3}", execute=watched)
    assert len(waiting) > 8
    assert all(waiting)
    assert {t.state for t in done} == {"finished", "stopped"}
    assert existing(tmp_path) == _front(done)


def test_those_of_a_second_look_stay(tmp_path: Path):
    done = _run(tmp_path, SEARCH, "confirm={top: 2, seeds: 2, epochs: x2}")
    second = {training_digest(t) for t in done if t.is_confirmation}
    assert len(second) == 4
    assert existing(tmp_path) == _front([t for t in done if not t.is_confirmation]) | second


def test_trainings_that_are_the_same_share_one(tmp_path: Path):
    """One block stands for one and for two: the dearer one is beaten by its twin, which still wants what they share."""
    done = _run(tmp_path, SEARCH, "proxy.depth=2")
    first = [t for t in done if not t.source]
    assert len(first) < len(done)
    assert existing(tmp_path) == _front_of_twins(done)


def _front_of_twins(done: list[Trial]) -> set[str]:
    points = [(-t.curve[-1]["top1"], t.asked["macs"]) for t in done]
    beaten = [any(a <= x and b <= y and (a, b) != (x, y) for a, b in points) for x, y in points]
    return {training_digest(t) for t, lost in zip(done, beaten, strict=True) if not lost}


class Killed(BaseException):
    """In place of a signal."""


def test_what_a_killed_run_has_left_is_removed_at_the_next_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def dying(self: object, trial: Trial) -> None:
        if trial.number == 5:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("hiri_search.study.persistence.checkpoints.CheckpointRetention.ended", dying)
        with pytest.raises(Killed):
            _run(tmp_path, SEARCH)
    assert len(existing(tmp_path)) == 6
    half = next((tmp_path / "checkpoints").glob("*/last.pt")).with_name("last.1.tmp")
    half.write_bytes(b"half")
    done = _run(tmp_path, SEARCH)
    assert existing(tmp_path) == _front(done)
    assert not half.exists()


def test_what_it_does_not_know_is_left_alone(tmp_path: Path):
    strange = tmp_path / "checkpoints" / "mine" / "last.pt"
    strange.parent.mkdir(parents=True)
    strange.write_bytes(b"precious")
    _run(tmp_path, SEARCH, "checkpoints=none")
    assert existing(tmp_path) == {"mine"}
