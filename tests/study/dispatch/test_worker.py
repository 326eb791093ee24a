"""Hands through one Ray: who dies, hangs or leaves is heard of, and what was asked for is done."""

import time
from collections import Counter
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from hiri_search.study.dispatch.ray_executor import _hand_out, _ray
from hiri_search.study.dispatch.resources import TrialResources
from hiri_search.study.dispatch.worker import TrialFunction
from hiri_search.study.errors import StudyError
from hiri_search.study.ledger.events import Event
from hiri_search.system.shutdown import Shutdown
from tests.study.dispatch import fake_work as works
from tests.study.dispatch.fake_work import Listed

pytestmark = pytest.mark.waits


@pytest.fixture(scope="module", autouse=True)
def _one_ray() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PYTHONPATH", str(Path(works.__file__).parents[3]))
        with _ray(None, TrialResources(2), lambda text: None):
            yield


def _work(home: Path, do: TrialFunction, *, hands: int = 1, count: int = 4, **slots: Any) -> Listed:
    feed = Listed(home, count)
    _share(feed, Shutdown(), do, TrialResources(hands, **slots))
    return feed


def _share(feed: Listed, leaving: Shutdown, do: TrialFunction, slots: TrialResources) -> None:
    first = feed.next()
    assert first
    _hand_out(first, feed, slots, leaving, do)


@pytest.mark.parametrize(("do", "hands"), [(works.dies_once, 2), (works.ends_without_a_word, 1)])
def test_a_task_whose_process_dies_is_lost_and_the_others_are_not(tmp_path: Path, do: TrialFunction, hands: int):
    feed = _work(tmp_path, do, hands=hands)
    assert Counter(e["trial"] for e in feed.told("finished")) == {0: 1, 1: 1, 2: 1, 3: 1}
    (lost,) = feed.told("lost")
    assert (lost["trial"], lost["fault"]) == (1, "process")


def test_a_task_that_stands_still_is_given_up_and_it_is_said_where_it_was(tmp_path: Path):
    feed = _work(tmp_path, works.hangs_once, count=2, timeout=2.0)
    assert len(feed.told("finished")) == 2
    (lost,) = feed.told("lost")
    assert "no step for" in lost["reason"]
    assert "waits_for_ever" in lost["traceback"]


def test_a_task_that_only_takes_long_is_not(tmp_path: Path):
    feed = _work(tmp_path, works.slow_steps, count=1, timeout=1.5)
    assert len(feed.told("finished")) == 1
    assert not feed.told("lost")


class LeftEarly(Listed):
    """Is asked to go at the first epoch that it hears of."""

    def __init__(self, home: Path, leaving: Shutdown) -> None:
        super().__init__(home, 4)
        self.leaving, self.since = leaving, 0.0

    def on_event(self, event: Event) -> None:
        super().on_event(event)
        if event["event"] == "epoch" and not self.leaving.requested:
            self.leaving.on_signal(2, None)
            self.since = time.monotonic()


def test_who_leaves_waits_for_the_end_of_an_epoch_and_no_longer(tmp_path: Path):
    leaving = Shutdown()
    feed = LeftEarly(tmp_path, leaving)
    with pytest.raises(KeyboardInterrupt):
        _share(feed, leaving, works.epochs, TrialResources(1))
    assert time.monotonic() - feed.since < 30
    assert not feed.told("finished")


def test_what_the_machines_of_trials_lack_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "only_here.py").write_text("def work(task, tell, beat, *, beside_others): ...")
    monkeypatch.syspath_prepend(tmp_path)  # of this process alone: those of Ray have begun
    lacking = import_module("only_here")
    wanted = r"No module named 'only_here'.*install hiri-search.*docs/cluster.md"
    with pytest.raises(StudyError, match=wanted) as error:
        _work(tmp_path, lacking.work)
    assert len(str(error.value)) < 500
