"""The time model, trials in slots, and stints of rungs, against known models and examples."""

from collections import Counter
from random import Random

import pytest

from hiri_search.study.config.sections.search import HalvingConfig
from hiri_search.study.plan.schedule import bit_reversed_order, makespan, training_stints
from hiri_search.study.plan.time_model import TimeModel, Workload, fit, leave_one_out_error

WORKS = [Workload(macs, traffic) for macs, traffic in ((1e6, 1e5), (5e6, 1e5), (2e6, 9e5), (8e6, 4e5), (3e6, 3e5))]


@pytest.mark.parametrize(
    "law", [TimeModel(0.01, 1e-9, 2e-8), TimeModel(0.0, 3e-9, 0.0), TimeModel(0.5, 0.0, 1e-7), TimeModel(0.2, 0.0, 0.0)]
)
def test_a_law_is_found_again(law: TimeModel):
    found = fit(WORKS, [law(work) for work in WORKS])
    for work in (*WORKS, Workload(1e9, 1e8)):
        assert found(work) == pytest.approx(law(work))
    assert leave_one_out_error(WORKS, [law(work) for work in WORKS]) == pytest.approx([0.0] * len(WORKS), abs=1e-6)


def test_the_time_of_one_network_grows_with_its_activations():
    law = fit(WORKS[:1], [2.0])
    assert law(WORKS[0] * 3) == pytest.approx(6.0)


@pytest.mark.parametrize("seed", range(20))
def test_no_law_goes_under_zero_or_falls(seed: int):
    rng = Random(seed)
    some = rng.sample(WORKS, rng.randint(1, len(WORKS)))
    law = fit(some, [rng.uniform(0, 1) for _ in some])
    assert 0 <= law(Workload(0, 0)) <= law(Workload(1, 1)) <= law(Workload(1e12, 1e12))


def test_errors_are_relative_so_that_cheap_networks_count_as_much_as_dear_ones():
    """Two equal networks, one of which took twice as long: the model lies nearer to the faster one."""
    law = fit([WORKS[0], WORKS[0]], [1.0, 2.0])
    assert law(WORKS[0]) == pytest.approx(1.2), "which is off by 20 % and 40 %: the least squares"


def test_who_is_left_out_is_compared_with_the_law_of_the_others():
    constant = [1.0, 1.0, 1.0, 1.0, 2.0]
    works = [Workload(0, 0)] * 5
    errors = leave_one_out_error(works, constant)
    assert errors[-1] == pytest.approx(-0.5)
    assert leave_one_out_error(works[:3], constant[:3]) == [], "too few for a law without one"


@pytest.mark.parametrize(
    ("seconds", "slots", "ends"),
    [
        ([], 2, 0),
        ([5], 2, 5),
        ([3, 3, 3], 1, 9),
        ([3, 3, 3], 2, 6),
        ([4, 1, 1, 1], 2, 4),
        ([1, 1, 1, 4], 2, 5),
        ([1, 2, 3], 8, 3),
    ],
)
def test_trials_begin_in_their_order_where_a_slot_is_free(seconds: list[float], slots: int, ends: float):
    assert makespan(seconds, slots) == ends


def test_places_are_spread_out_from_the_ends_inwards():
    assert list(bit_reversed_order(9)) == [0, 8, 4, 2, 6, 1, 3, 5, 7]
    assert list(bit_reversed_order(1)) == [0]
    assert all(sorted(bit_reversed_order(count)) == list(range(count)) for count in range(30))


def test_without_rungs_all_trials_are_trained_to_the_end():
    assert list(training_stints(3, 12, None)) == [(0, 0, 12), (1, 0, 12), (2, 0, 12)]


def test_behind_each_rung_the_share_goes_on():
    stints = list(training_stints(9, 12, HalvingConfig(epochs=(2, 6), keep=1 / 3)))
    assert Counter((begin, end) for _, begin, end in stints) == {(0, 2): 9, (2, 6): 3, (6, 12): 1}
    assert [(begin, end) for trial, begin, end in stints if trial == 0] == [(0, 2), (2, 6), (6, 12)]


def test_at_the_last_rung_one_goes_on_at_least():
    assert Counter(end for *_, end in training_stints(2, 5, HalvingConfig(epochs=(1,), keep=0.1))) == {1: 2, 5: 1}


def test_brackets_take_trials_in_turn_and_begin_higher():
    stints = list(training_stints(6, 12, HalvingConfig(epochs=(2, 6), keep=0.5, brackets=3)))
    assert {trial: end for trial, begin, end in stints if not begin} == {0: 2, 3: 2, 1: 6, 4: 6, 2: 12, 5: 12}
    assert sum(end - begin for _, begin, end in stints) == (2 + 2 + 4 + 6) + (6 + 6 + 6) + (12 + 12)
