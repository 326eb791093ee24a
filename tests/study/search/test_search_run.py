"""Whole searches with real trainings, also killed in the middle."""

from collections.abc import Callable
from pathlib import Path

import pytest

from hiri_search.study.config.read import read_study
from hiri_search.study.dispatch.run_trial import run_trial
from hiri_search.study.dispatch.serial_dispatcher import run_serially
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


def _run(folder: Path, *sets: str, dispatch: Callable[[TrialSource], None] = run_serially) -> list[Trial]:
    folder.mkdir(exist_ok=True)
    (folder / "study.yaml").write_text(STUDY)
    run(read_study(folder / "study.yaml", sets=sets), folder, dispatch, Quiet(), profile="none")
    return trials(read_events(folder))


class Killed(BaseException):
    """Stands for a kill signal."""


def _killed_in(trial: int) -> Callable[[TrialSource], None]:
    """Return a dispatcher that dies after the first event of a trial."""

    def dispatch(source: TrialSource) -> None:
        def on_event(event):
            source.on_event(event)
            if event.trial == trial:
                raise Killed

        while task := source.next():
            run_trial(task, on_event)

    return dispatch


def test_a_killed_search_resumes_with_the_same_results(tmp_path: Path):
    unbroken = _run(tmp_path / "unbroken")
    for trial in (0, 9):
        with pytest.raises(Killed):
            _run(tmp_path / "killed", dispatch=_killed_in(trial))
    resumed = _run(tmp_path / "killed")
    assert [(t.network.key, t.state) for t in resumed] == [(t.network.key, "finished") for t in unbroken]
    assert [t.curve[-1].loss for t in resumed] == [t.curve[-1].loss for t in unbroken]


def test_latency_as_an_objective_is_measured_for_each_network(tmp_path: Path):
    (trial,) = _run(
        tmp_path, "search.networks=1", "search.objectives=[top1,ms_per_image]", "latency={min_rounds: 1, max_rounds: 1}"
    )
    assert trial.network.ms_per_image > 0


@pytest.mark.skipif(bool(gpus()), reason="memory is measured on CUDA")
def test_memory_as_an_objective_needs_cuda(tmp_path: Path):
    with pytest.raises(StudyError, match="measured on CUDA GPUs only"):
        _run(tmp_path, "search.objectives=[top1,memory]")


def test_a_repeated_objective_is_refused(tmp_path: Path):
    with pytest.raises(StudyError, match=r"search\.objectives: an objective is repeated"):
        _run(tmp_path, "search.objectives=[top1,top1]")
