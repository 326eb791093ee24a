"""An identical training is trained once: within a study, and from one study to the next."""

from dataclasses import replace
from pathlib import Path

import pytest

from hiri_search.study.config.read import read_study
from hiri_search.study.dispatch.serial_dispatcher import run_serially
from hiri_search.study.dispatch.task import TrialSource, TrialTask
from hiri_search.study.errors import StudyError
from hiri_search.study.ledger.events import EpochEnded, TrialFailed, TrialFinished
from hiri_search.study.ledger.ledger import of_kind, read_events, trials
from hiri_search.study.ledger.trial import Trial
from hiri_search.study.ledger.values import to_json
from hiri_search.study.run import run
from hiri_search.training.recipe import Recipe
from tests.study.records import epoch, network
from tests.study.search.searches import Quiet

STUDY = """
space: hr(32 e=4|6) -> (hr | cffn)(64 e=4)*1..2
search: {sampler: random, networks: 3}
counted: {side: 64, classes: 10}
proxy: {width: 4, side: 32, classes: 4}
data: {source: drawn, train: 32, val: 16}
recipe: {epochs: 1, batch: 16, warmup_epochs: 0, ema: 0.0}
"""


def _run(folder: Path, *sets: str, dispatch=run_serially) -> list[Trial]:
    folder.mkdir(exist_ok=True)
    (folder / "study.yaml").write_text(STUDY)
    run(read_study(folder / "study.yaml", sets=sets), folder, dispatch, Quiet(), profile="none")
    return trials(read_events(folder))


def _trained(folder: Path) -> set[int]:
    return {event.trial for event in of_kind(read_events(folder), EpochEnded)}


def test_a_recipe_of_a_ledger_that_lacks_a_newer_setting_is_the_same_training():
    recipes = [to_json(Recipe(epochs=epochs)) for epochs in (5, 5, 6)]
    del recipes[1]["schedule"], recipes[1]["min_scale"]
    plain = network()
    first, older, other = (
        replace(plain, stand_in=replace(plain.trained, recipe=recipe)).training for recipe in recipes
    )
    assert first == older != other
    assert plain.training not in (first, other)


def test_a_result_of_another_folder_is_taken_over(tmp_path: Path):
    other, here = tmp_path / "other", tmp_path / "here"
    first = _run(other)
    again = _run(here, f"search.reuse=[{other}]", "search.networks=5")
    assert _trained(here) == {3, 4}
    assert [t.source for t in again] == [f"{other}: trial {number}" for number in range(3)] + ["", ""]
    assert [t.curve for t in again[:3]] == [t.curve for t in first]
    assert [t.row()["seconds"] > 0 for t in again] == [False] * 3 + [True] * 2
    assert [t.row().get("seconds_reused") for t in again] == [t.row()["seconds"] for t in first] + [None] * 2

    third = _run(tmp_path / "third", f"search.reuse=[{here}]")
    assert [t.source for t in third] == [t.source for t in again[:3]], "the source is the folder that trained it"


@pytest.mark.parametrize(
    "setting", ["recipe.lr=1e-4", "seeds=[1]", "data.seed=1", "proxy.side=64", "proxy.width=2"], ids=str
)
def test_a_training_with_another_setting_is_trained(tmp_path: Path, setting: str):
    _run(tmp_path / "other")
    _run(tmp_path / "here", f"search.reuse=[{tmp_path}/other]", setting)
    assert _trained(tmp_path / "here") == {0, 1, 2}


def test_reuse_does_not_change_the_networks_of_a_study(tmp_path: Path):
    """A study that was begun without `search.reuse` continues with it, and asks for the same networks."""
    _run(tmp_path / "other")
    before = _run(tmp_path / "here")
    after = _run(tmp_path / "here", f"search.reuse=[{tmp_path}/other]")
    assert [t.row() for t in after] == [t.row() for t in before]


def test_a_folder_without_a_ledger_is_refused(tmp_path: Path):
    with pytest.raises(StudyError, match="nowhere holds no"):
        _run(tmp_path / "here", "search.reuse=[nowhere]")


SHALLOW = ("proxy.depth=2", "search.networks=8")  # a stage of one block is the stand-in of one and of two blocks


def test_networks_with_the_same_stand_in_share_its_training(tmp_path: Path):
    done = _run(tmp_path, *SHALLOW)
    by_stand_in = {t.network.trained.spec: t.curve for t in done if not t.source}
    assert len(done) == 8
    assert len(_trained(tmp_path)) == len(by_stand_in) == 4
    assert all(t.curve == by_stand_in[t.network.trained.spec] for t in done)
    assert {t.source for t in done if t.source} <= {f"trial {t.number}" for t in done if not t.source}


@pytest.mark.parametrize("end", ["finished", "failed"])
def test_a_duplicate_waits_for_the_running_trial_and_ends_in_the_same_way(tmp_path: Path, end: str):

    def all_at_once(source: TrialSource) -> None:
        tasks = list(iter(source.next, None))
        assert len(tasks) == 4
        for task in tasks:
            assert isinstance(task, TrialTask)
            finished = TrialFinished(trial=task.trial, curve=(epoch(1),))
            source.on_event(finished if end == "finished" else TrialFailed(trial=task.trial, reason="broken"))

    done = _run(tmp_path, *SHALLOW, dispatch=all_at_once)
    assert [t.state for t in done] == [end] * 8
    assert sum(t.reason.startswith("as trial") for t in done) == (4 if end == "failed" else 0)
    assert sum(bool(t.source) for t in done) == (4 if end == "finished" else 0)
