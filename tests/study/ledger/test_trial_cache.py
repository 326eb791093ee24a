"""What was trained is not trained again: within a study, and from one to the next."""

from pathlib import Path

import pytest

from hiri_search.study.config.read import read_study
from hiri_search.study.dispatch.serial_executor import run_serially
from hiri_search.study.dispatch.task import TrialSource
from hiri_search.study.errors import StudyError
from hiri_search.study.ledger.events import Event
from hiri_search.study.ledger.ledger import read_events, trials
from hiri_search.study.ledger.trial import Trial
from hiri_search.study.run import run
from tests.study.search.searches import Quiet

STUDY = """
space: hr(32 e=4|6) -> (hr | cffn)(64 e=4)*1..2
search: {sampler: random, networks: 3}
counted: {side: 64, classes: 10}
proxy: {width: 4, side: 32, classes: 4}
data: {source: drawn, train: 32, val: 16}
recipe: {epochs: 1, batch: 16, warmup_epochs: 0, ema: 0.0}
"""


def _run(folder: Path, *sets: str, execute=run_serially) -> list[Trial]:
    folder.mkdir(exist_ok=True)
    (folder / "study.yaml").write_text(STUDY)
    run(read_study(folder / "study.yaml", sets=sets), folder, execute, Quiet(), profile="none")
    return trials(read_events(folder))


def _trained(folder: Path) -> set[int]:
    return {event["trial"] for event in read_events(folder) if event["event"] == "epoch"}


def test_what_another_study_trained_is_taken_from_there(tmp_path: Path):
    there, here = tmp_path / "there", tmp_path / "here"
    first = _run(there)
    again = _run(here, f"search.reuse=[{there}]", "search.networks=5")
    assert _trained(here) == {3, 4}
    assert [t.source for t in again] == [f"{there}: trial {number}" for number in range(3)] + ["", ""]
    assert [t.curve for t in again[:3]] == [t.curve for t in first]
    assert [t.row()["seconds"] > 0 for t in again] == [False] * 3 + [True] * 2

    third = _run(tmp_path / "third", f"search.reuse=[{here}]")
    assert [t.source for t in third] == [t.source for t in again[:3]], "where it was trained, not where it was read"


@pytest.mark.parametrize(
    "other", ["recipe.lr=1e-4", "seeds=[1]", "data.seed=1", "proxy.side=64", "proxy.width=2"], ids=str
)
def test_what_was_trained_otherwise_is_trained(tmp_path: Path, other: str):
    _run(tmp_path / "there")
    _run(tmp_path / "here", f"search.reuse=[{tmp_path}/there]", other)
    assert _trained(tmp_path / "here") == {0, 1, 2}


def test_other_folders_decide_nothing(tmp_path: Path):
    """A study goes on with others than it was begun with, and asks for the same networks."""
    _run(tmp_path / "there")
    before = _run(tmp_path / "here")
    after = _run(tmp_path / "here", f"search.reuse=[{tmp_path}/there]")
    assert [t.row() for t in after] == [t.row() for t in before]


def test_a_folder_without_a_ledger_is_refused(tmp_path: Path):
    with pytest.raises(StudyError, match="nowhere holds no"):
        _run(tmp_path / "here", "search.reuse=[nowhere]")


SHALLOW = ("proxy.depth=2", "search.networks=8")  # one block stands for one and for two


def test_networks_with_one_stand_in_share_its_training(tmp_path: Path):
    done = _run(tmp_path, *SHALLOW)
    by_stand_in = {t.network.trained.spec: t.curve for t in done if not t.source}
    assert len(done) == 8
    assert len(_trained(tmp_path)) == len(by_stand_in) == 4
    assert all(t.curve == by_stand_in[t.network.trained.spec] for t in done)
    assert {t.source for t in done if t.source} <= {f"trial {t.number}" for t in done if not t.source}


@pytest.mark.parametrize("end", ["finished", "failed"])
def test_one_that_is_asked_for_while_its_stand_in_trains_waits_for_that(tmp_path: Path, end: str):
    epoch = {"epoch": 1, "top1": 50.0, "loss": 1.0}

    def all_at_once(feed: TrialSource) -> None:
        tasks = list(iter(feed.next, None))
        assert len(tasks) == 4
        for task in tasks:
            facts: Event = {"curve": [epoch]} if end == "finished" else {"reason": "broken"}
            feed.on_event({"event": end, "trial": task.trial, **facts})

    done = _run(tmp_path, *SHALLOW, execute=all_at_once)
    assert [t.state for t in done] == [end] * 8
    assert sum(t.reason.startswith("as trial") for t in done) == (4 if end == "failed" else 0)
    assert sum(bool(t.source) for t in done) == (4 if end == "finished" else 0)
