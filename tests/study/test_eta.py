"""How fast a study comes on, and how long the rest will take, by ledgers whose pace is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import many
import pytest

from hiri_search.study.config.schema import Study
from hiri_search.study.eta import SECONDS_PER_HOUR, remaining, seconds_left, throughput, trials_wanted
from hiri_search.study.ledger.events import Event
from hiri_search.study.ledger.ledger import trials

EPOCHS = 6  # of many's studies
GIGA = 1e9


def _told(count: int, macs: Callable[[int], float], pace: Callable[[int, int], float]) -> Iterator[Event]:
    """So many trials, one after the other; `pace` says how many seconds an epoch of a trial takes."""
    now = 1000.0
    for number in range(count):
        asked = {"name": f"row {number}", "seed": 0, "trained_macs": macs(number)}
        yield {"event": "asked", "trial": number, **asked, "time": now}
        curve = []
        for epoch in range(1, EPOCHS + 1):
            now += pace(number, epoch)
            curve.append({"epoch": epoch, "top1": 50.0, "seconds": pace(number, epoch)})
            yield {"event": "epoch", "trial": number, **curve[-1], "time": now}
        yield {"event": "finished", "trial": number, "curve": curve, "time": now}


def _left(study: Study, events: list[Event], until: float) -> tuple[float, float] | None:
    """What is said when the ledger's last line is of this time."""
    told = [event for event in events if event["time"] <= until]
    known = {trial.number: trial for trial in trials(told)}
    costs = [{"name": e["name"], "trained_macs": e["trained_macs"]} for e in events if e["event"] == "asked"]
    return seconds_left(throughput(told, known), remaining(study.model_dump(mode="json"), costs, list(known.values())))


ALIKE: Callable[[int], float] = lambda number: GIGA
CASES = {
    "even": (ALIKE, lambda number, epoch: 2.0),
    "slower later": (ALIKE, lambda number, epoch: 2.0 if number < 5 else 6.0),
    "faster later": (ALIKE, lambda number, epoch: 6.0 if number < 5 else 2.0),
    "by multiply-adds": (lambda number: GIGA * (1 + number), lambda number, epoch: 1.0 + number),
    "dear, but not slower": (lambda number: GIGA * (1 + number), lambda number, epoch: 2.0),
}


@pytest.mark.parametrize(("macs", "pace"), CASES.values(), ids=CASES)
@pytest.mark.parametrize("done", [0.5, 0.8])
def test_what_is_left_lies_within_its_bounds(macs: Callable[[int], float], pace: Callable[..., float], done: float):
    events = list(_told(20, macs, pace))
    end = events[-1]["time"]
    until = events[int(len(events) * done)]["time"]
    left = _left(many.ablation(20, 1), events, until)
    assert left is not None
    assert left[0] - 1e-6 <= end - until <= left[1] + 1e-6
    assert left[1] <= 3 * (end - until), "it says something"


def test_an_even_pace_leaves_no_doubt():
    events = list(_told(20, ALIKE, lambda number, epoch: 2.0))
    left = _left(many.ablation(20, 1), events, until=1000 + 10 * EPOCHS * 2.0)
    assert left == pytest.approx((10 * EPOCHS * 2.0, 10 * EPOCHS * 2.0))


def test_nothing_is_said_after_too_few_epochs_and_nothing_is_left_at_the_end():
    events = list(_told(20, ALIKE, lambda number, epoch: 2.0))
    assert _left(many.ablation(20, 1), events, until=1000 + 3 * 2.0) is None
    assert _left(many.ablation(20, 1), events, until=float("inf")) == (0.0, 0.0)


def test_time_between_runs_and_a_clock_that_went_back_are_no_training():
    first, second = (list(_told(2, ALIKE, lambda number, epoch: 2.0)) for _ in range(2))
    later = [{**event, "trial": event["trial"] + 2, "time": event["time"] + 1e6} for event in second]
    events = [*first, {"event": "study", "time": 9e5}, *later]
    events.insert(9, {"event": "began", "trial": 1, "device": "", "time": 0.0})
    known = {trial.number: trial for trial in trials(events)}
    whole = throughput(events, known)[-1]
    trained = 4 * EPOCHS * 2.0
    assert trained <= whole.hours * SECONDS_PER_HOUR <= trained + 1e3 + 2 * EPOCHS * 2.0
    assert (whole.trials, whole.epochs, whole.work) == (4, 4 * EPOCHS, 4 * EPOCHS * GIGA)


def test_a_trial_alone_takes_at_least_its_own_epochs():
    """However many others went fast: the last one is trained on one device."""
    slow = 19
    events = list(_told(20, ALIKE, lambda number, epoch: 100.0 if number == slow else 1.0))
    until = events[-5]["time"]  # three of its epochs are left
    left = _left(many.ablation(20, 1), events, until)
    assert left is not None
    assert left[0] == pytest.approx(3 * 100.0)


RUNGS = {"epochs": [2], "keep": 0.5}
SEARCHES = {
    "plain": (many.search(20), 20, 20 * EPOCHS),
    "with rungs": (many.search(20, halving=RUNGS), 20, 20 * 2 + 10 * (EPOCHS - 2)),
    "an ablation over seeds": (many.ablation(4, 3), 12, 12 * EPOCHS),
}


@pytest.mark.parametrize(("study", "count", "epochs"), SEARCHES.values(), ids=SEARCHES)
def test_what_a_study_asks_for_before_it_has_begun(study: Study, count: int, epochs: int):
    file = study.model_dump(mode="json")
    assert trials_wanted(file) == count
    assert remaining(file, [], []).epochs == epochs


def test_a_second_look_counts():
    file = many.search(20).model_copy(update={"confirm": None}).model_dump(mode="json")
    file["confirm"] = {"top": 3, "seeds": [0, 1], "epochs": "x2"}
    assert trials_wanted(file) == 20 + 6
    assert remaining(file, [], []).epochs == 20 * EPOCHS + 6 * 2 * EPOCHS


def test_steps_only_grow():
    events = list(_told(5, ALIKE, lambda number, epoch: 2.0))
    steps = throughput(events, {trial.number: trial for trial in trials(events)})
    assert all(a.epochs <= b.epochs and a.hours <= b.hours for a, b in pairwise(steps))
    assert len(steps) == 1 + 5 * (EPOCHS + 1)
