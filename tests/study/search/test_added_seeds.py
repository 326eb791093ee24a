"""The rule of `seeds: auto`: which training comes next, when it ends, and its replay from a ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
import sequential_seeds

from hiri_search.study.config.schema import StudyConfig
from hiri_search.study.eta import trials_wanted
from hiri_search.study.ledger.events import Event, Planned, RunEnded, TrialAsked, TrialBegan, TrialFinished
from hiri_search.study.ledger.trial import Trial
from hiri_search.study.search.added_seeds import AddedSeed, SeedRule, fits_time, replayed, seconds_used
from hiri_search.study.search.comparison_design import comparison_design
from tests.study.records import asked, epoch, network, study_started

Scores = Mapping[str, Sequence[float | None]]  # top-1 by row and seed; None: failed


def _study(rows: Sequence[str] = ("base", "a", "b"), **keys: Any) -> StudyConfig:
    file = {"nets": {row: "hr(32 e=4)" for row in rows}, "compare": "base", "seeds": {"most": 6}}
    return StudyConfig.model_validate(file | keys)


def _rule(**keys: Any) -> SeedRule:
    study = _study(**keys)
    return SeedRule(study, comparison_design(study))


def _trials(scores: Scores, *, added_for: tuple[str, str] | None = None) -> list[Trial]:
    """Return the ended trials of these scores; seeds from the fourth on were added for a pair."""
    pairs = [(row, seed, score) for row, by_seed in scores.items() for seed, score in enumerate(by_seed)]
    trials = []
    for number, (row, seed, score) in enumerate(pairs):
        new = asked(number, network(row), seed=seed, added_for=added_for if seed > 2 else None)
        curve = [] if score is None else [epoch(1, score)]
        trials.append(Trial(new, "finished" if curve else "failed", curve=curve))
    return trials


BASE, NEAR, FAR, SAME = [70.0, 71.0, 69.0], [72.6, 74.2, 71.8], [60.0, 61.1, 59.05], [70.2, 70.6, 69.1]


def test_no_seed_is_added_before_all_first_seeds_have_ended():
    trials = _trials({"base": BASE, "a": NEAR, "b": SAME})
    assert _rule().next(trials[:-1]) is None
    assert _rule().next([*trials[:-1], replace(trials[-1], state="unfinished")]) is None
    assert _rule().next([*trials[:-1], replace(trials[-1], state="failed")])


def test_both_rows_of_the_pair_that_is_likeliest_to_be_shown_get_the_next_seed():
    rule, trials = _rule(), _trials({"base": BASE, "a": SAME, "b": NEAR})
    first = rule.next(trials)
    assert first == AddedSeed("b", 3, ("b", "base"))
    begun = Trial(asked(9, network("b"), seed=3, added_for=("b", "base")))
    assert rule.next([*trials, begun]) == AddedSeed("base", 3, ("b", "base")), "even while it is trained"


def test_another_pair_does_not_wait_for_a_pair_whose_seed_is_trained():
    rule, trials = _rule(), _trials({"base": BASE, "a": NEAR, "b": [72.1, 74.0, 71.0]})
    running = [
        Trial(asked(9 + n, network(row), seed=3, added_for=("a", "base"))) for n, row in enumerate(("a", "base"))
    ]
    assert rule.next([*trials, *running]) == AddedSeed("b", 3, ("b", "base")), "the base has this seed already"
    alone = _trials({"base": BASE, "a": [72.6, 74.2, 70.0]})
    assert _rule(rows=("base", "a")).next(alone)
    assert _rule(rows=("base", "a")).next([*alone, *running]) is None


ENDS: dict[str, Scores] = {
    "it is shown": {"base": [*BASE, 70.5], "a": [*FAR, 60.6]},
    "it has no chance": {"base": BASE, "a": [70.5, 70.5, 69.1]},
    "it does not vary, and does not differ": {"base": BASE, "a": BASE},
    "it has the most seeds": {"base": [*BASE, 70.1, 71.2, 69.3], "a": [72.6, 74.2, 71.8, 70.0, 73.1, 70.2]},
    "its first seeds have failed": {"base": BASE, "a": [None, None, 71.0]},
}


@pytest.mark.parametrize("scores", ENDS.values(), ids=ENDS)
def test_a_pair_gets_no_more_seeds_once(scores: Scores):
    rule = _rule(rows=("base", "a"))
    assert rule.next(_trials(scores, added_for=("a", "base"))) is None
    assert rule.possible(_trials(scores, added_for=("a", "base"))) == set()


def test_the_trials_that_are_still_possible_are_those_of_undecided_pairs():
    trials = _trials({"base": BASE, "a": NEAR, "b": SAME})
    assert _rule().possible(trials) == {(row, seed) for row in ("base", "a") for seed in (3, 4, 5)}
    before = _rule().possible(trials[:2])
    assert before == {(row, seed) for row in ("base", "a", "b") for seed in (3, 4, 5)}, "at most"
    assert trials_wanted(_study(), 3, trials[:2]) == 9


def test_a_row_that_is_taken_away_is_forgotten():
    trials = _trials({"base": BASE, "a": [72.6, 74.2, 70.0], "gone": [50.0]})
    assert _rule(rows=("base", "a")).next(trials) == AddedSeed("a", 3, ("a", "base"))


def test_steps_are_pairs_too_and_their_seeds_are_completed():
    rule = _rule(rows=("base", "a", "b"), compare="steps")
    trials = _trials({"base": BASE, "a": [70.2, 70.6, 69.1], "b": [72.9, 74.1, 72.2]})
    assert rule.next(trials) == AddedSeed("b", 3, ("b", "a"))
    begun = Trial(asked(9, network("b"), seed=3, added_for=("b", "a")))
    assert rule.next([*trials, begun]) == AddedSeed("a", 3, ("b", "a"))


def test_seeds_go_on_after_the_largest_first_seed():
    assert _study(seeds={"first": [5, 9, 7], "most": 5}).auto_seeds.all_seeds == (5, 9, 7, 10, 11)  # type: ignore[union-attr]


# ---- the time limit


def test_time_is_that_of_the_runs_and_not_between_them():
    events: list[Event] = [
        *(study_started(time=100.0), TrialBegan(trial=0, device="", time=130.0), RunEnded(seconds={}, time=160.0)),
        *(Planned(plan={}, time=900.0), study_started(time=1000.0), TrialBegan(trial=1, device="", time=1020.0)),
    ]
    assert seconds_used(events) == 60 + 20
    assert seconds_used([]) == 0


@pytest.mark.parametrize(
    ("left", "workers", "fits"), [(5.1, 1, True), (4.9, 1, False), (3.1, 2, True), (2.9, 2, False)]
)
def test_what_a_pair_lacks_must_fit_into_the_time_that_is_left(left: float, workers: int, fits: bool):
    trials = [
        replace(trial, curve=[epoch(1, 50.0, seconds=2.0 if trial.network.name == "a" else 3.0)])
        for trial in _trials({"base": BASE, "a": NEAR})
    ]
    assert fits_time(AddedSeed("a", 3, ("a", "base")), trials, left, free_workers=workers) == fits
    with_base = [*trials, Trial(asked(9, network("base"), seed=3))]
    assert fits_time(AddedSeed("a", 3, ("a", "base")), with_base, 2.0), "the base has it already"


# ---- replay


def _ledger(order: Sequence[tuple[str, int]], scores: Scores) -> list[Event]:
    """Return the events of a serial run; seeds from the fourth on were added for the row and the base."""
    events: list[Event] = [study_started(_study())]
    for number, (row, seed) in enumerate(order):
        added = ("b", "base") if seed > 2 else None
        events.append(asked(number, network(row), seed=seed, added_for=added))
        score = scores[row][seed]
        assert score is not None
        events.append(TrialFinished(trial=number, curve=(epoch(1, score),)))
    return events


def test_a_replay_finds_an_added_seed_that_the_rule_would_not_add():
    scores = {"base": [*BASE, 70.2], "a": [*SAME, 70.4], "b": [*NEAR, 73.0]}
    first = [(row, seed) for row in scores for seed in range(3)]
    right = list(replayed(_ledger([*first, ("b", 3), ("base", 3)], scores)))
    assert [(asked.network.name, asked.seed) for asked, _ in right] == [("b", 3), ("base", 3)]
    assert all(added == AddedSeed(asked.network.name, asked.seed, asked.added_for or ()) for asked, added in right)  # type: ignore[arg-type]
    ((wrong, by_rule),) = replayed(_ledger([*first, ("a", 3)], scores))
    assert isinstance(wrong, TrialAsked)
    assert (wrong.network.name, by_rule) == ("a", AddedSeed("b", 3, ("b", "base")))


# ---- many studies, through the real queue and report; benchmarks/sequential_seeds.py has more of them


def test_few_made_up_studies_show_a_difference_that_does_not_exist_and_most_show_a_large_one():
    null, large = (next(each for each in sequential_seeds.SCENARIOS if each.name == name) for name in CLAIMS)
    outcomes = [sequential_seeds.run(null, number) for number in range(60)]
    assert sum(outcome.false for outcome in outcomes) <= 7, "5 %; more than 7 of 60 have a probability of 1 %"
    assert sum(outcome.trainings for outcome in outcomes) / 60 < 40, "of 60 at most: hopeless pairs end early"
    assert sum(sequential_seeds.run(large, number).found for number in range(20)) >= 17


CLAIMS = ("no difference", "one difference of 3 sd")
