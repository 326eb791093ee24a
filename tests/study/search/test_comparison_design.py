"""Which pairs are compared, in which direction, and whether that was stated before their trainings."""

from __future__ import annotations

from typing import Any

import pytest

from hiri_search.stats.sequential import SequentialTest
from hiri_search.stats.significance import POINTS
from hiri_search.study.config.schema import StudyConfig
from hiri_search.study.ledger.events import Event
from hiri_search.study.search.comparison_design import comparison_design
from tests.study.records import asked, network, study_started

BASE = "HR-HR-CFFN-T-T"  # 84.3 in Table 8, as HR-HR-T-T-T
ROWS = {"HR": "HR-HR-HR-T-T", "T": "HR-HR-T-T-T", "own": None, BASE: None}


def _study(**keys: Any) -> StudyConfig:
    nets = {name: {"spec": "hr(32 e=4)", "paper": label} for name, label in ROWS.items()}
    return StudyConfig.model_validate({"nets": nets, "compare": BASE, "table": "8"} | keys)


def _trained(*rows: str) -> list[Event]:
    return [asked(number, network(row)) for number, row in enumerate(rows)]


def test_the_direction_of_the_papers_scores_is_stated_where_they_differ():
    design = comparison_design(_study())
    assert design.pairs == (("HR", BASE), ("T", BASE), ("own", BASE))
    assert design.signs == {("HR", BASE): -1}, "a tie, and a row that the paper lacks, are two-sided"


@pytest.mark.parametrize(
    "keys",
    [{"table": ""}, {"metrics": {"ece": {"function": "my:ece"}}, "score": "ece"}, {"table": "4"}, {"compare": "best"}],
    ids=["no table", "another score", "a table without these rows", "no pairs"],
)
def test_nothing_is_stated_by(keys: dict[str, Any]):
    assert comparison_design(_study(**keys)).signs == {}


CHANGED: dict[str, tuple[StudyConfig, list[Event], bool, int]] = {  # first study, events; named afterwards?, signs
    "as in the first run": (_study(), _trained("HR", BASE), False, 1),
    "a base named after the trainings": (_study(compare="best"), _trained("HR", BASE), True, 1),
    "a base named before the second row": (_study(compare="best"), _trained("HR"), False, 1),
    "a table named after the trainings": (_study(table=""), _trained("HR", BASE), False, 0),
}


@pytest.mark.parametrize(("first", "events", "post_hoc", "signs"), CHANGED.values(), ids=CHANGED)
def test_what_is_stated_counts_from_the_run_that_trains_a_pair(
    first: StudyConfig, events: list[Event], post_hoc: bool, signs: int
):
    design = comparison_design(_study(), [study_started(first), *events, study_started(_study())])
    assert (design.post_hoc, len(design.signs)) == (post_hoc, signs)


def test_a_base_named_after_the_trainings_is_tested_as_one_of_all_pairs_on_both_sides():
    scores = {"HR": {0: 60.0, 1: 62.0}, "T": {0: 70.0, 1: 71.5}, BASE: {0: 70.4, 1: 71.0}}
    events = [study_started(_study(compare="best")), *_trained("HR", BASE), study_started(_study())]
    before, after = (comparison_design(_study(), past).compare(scores, POINTS)[0] for past in ((), events))
    assert (before.family, before.stated, after.family, after.stated) == (2, -1, 3, 0)


def test_a_rule_is_tested_by_its_first_and_most_seeds():
    assert comparison_design(_study(seeds={"first": [5, 6, 7], "most": 9})).test == SequentialTest(3, 9)
    assert comparison_design(_study()).test is None


def test_more_seeds_than_the_rule_adds_are_tested_too():
    """A later study may lower `most`, and a merged folder may have more seeds."""
    study = _study(seeds={"first": [5, 6, 7], "most": 4})
    scores = {
        row: {seed: mean + seed**power for seed in range(6)} for row, mean, power in (("HR", 0, 1), (BASE, 90, 2))
    }
    comparison = next(each for each in comparison_design(study).compare(scores, POINTS) if each.row == "HR")
    assert comparison.seeds == 6
    assert comparison.interval.low < comparison.gain < comparison.interval.high < 0
