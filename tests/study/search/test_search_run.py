"""A search from the first network to the last, trained for real, and stopped in the middle."""

from collections.abc import Callable
from pathlib import Path

import pytest

from hiri_search.study.config.read import read_study
from hiri_search.study.dispatch.run_trial import run_trial
from hiri_search.study.dispatch.serial_executor import run_serially
from hiri_search.study.dispatch.task import TrialSource
from hiri_search.study.errors import StudyError
from hiri_search.study.ledger.ledger import read_events, trials
from hiri_search.study.ledger.trial import Trial
from hiri_search.study.run import run
from hiri_search.system.hardware import gpus
from tests.study.search.searches import Quiet

STUDY = """
space: (hr | cffn)(32 e=2..4)*1..2 -> (hr | t(d=32|64))(64 e=4|6)
search: {sampler: surrogate, networks: 12}
counted: {side: 64, classes: 10}
proxy: {width: 4, side: 32, classes: 4}
data: {source: drawn, train: 32, val: 16}
recipe: {epochs: 1, batch: 16, warmup_epochs: 0, ema: 0.0}
"""


def _run(folder: Path, *sets: str, execute: Callable[[TrialSource], None] = run_serially) -> list[Trial]:
    folder.mkdir(exist_ok=True)
    (folder / "study.yaml").write_text(STUDY)
    run(read_study(folder / "study.yaml", sets=sets), folder, execute, Quiet(), profile="none")
    return trials(read_events(folder))


class Killed(BaseException):
    """In place of a signal."""


def _until(trial: int) -> Callable[[TrialSource], None]:
    """Stops when this trial has told of its first epoch."""

    def execute(feed: TrialSource) -> None:
        def on_event(event):
            feed.on_event(event)
            if event.trial == trial:
                raise Killed

        while task := feed.next():
            run_trial(task, on_event)

    return execute


def test_a_search_that_was_killed_goes_on_as_if_it_had_not_been(tmp_path: Path):
    unbroken = _run(tmp_path / "unbroken")
    for trial in (0, 9):
        with pytest.raises(Killed):
            _run(tmp_path / "killed", execute=_until(trial))
    after = _run(tmp_path / "killed")
    assert [(t.network.key, t.state) for t in after] == [(t.network.key, "finished") for t in unbroken]
    assert [t.curve[-1].loss for t in after] == [t.curve[-1].loss for t in unbroken]


def test_a_search_for_fast_networks_times_each(tmp_path: Path):
    (done,) = _run(
        tmp_path, "search.networks=1", "search.objectives=[top1,ms_per_image]", "latency={least: 1, most: 1}"
    )
    assert done.network.ms_per_image > 0


@pytest.mark.skipif(bool(gpus()), reason="there it is measured")
def test_memory_is_no_objective_where_it_is_not_measured(tmp_path: Path):
    with pytest.raises(StudyError, match="CUDA alone"):
        _run(tmp_path, "search.objectives=[top1,memory]")


def test_an_objective_that_stands_there_twice_is_refused(tmp_path: Path):
    with pytest.raises(StudyError, match=r"search\.objectives: one stands there twice"):
        _run(tmp_path, "search.objectives=[top1,top1]")
