"""Cost constraints as text and as values; both ends of an interval are included."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hiri_search.cost.budget.constraints import (
    UNBOUNDED,
    ConstraintError,
    CostConstraints,
    Interval,
    parse_constraints,
    parse_interval,
)
from hiri_search.cost.flops import Cost

INTERVALS = [
    ("4.5..5.5", Interval(4.5, 5.5)),
    ("4.5..", Interval(4.5, inf)),
    ("..36", Interval(0, 36)),
    ("5..5", Interval(5, 5)),
    ("0..", Interval(0, inf)),
    (" 1e-3 .. 2 ", Interval(0.001, 2)),
]


@pytest.mark.parametrize(("text", "interval"), INTERVALS)
def test_an_interval_is_parsed_from_its_text(text: str, interval: Interval) -> None:
    assert parse_interval(text) == interval
    assert parse_interval(str(interval)) == interval


@given(st.floats(0, 1e9), st.floats(0, 1e9))
def test_every_interval_survives_a_round_trip_through_its_text(left: float, right: float) -> None:
    for interval in (Interval(min(left, right), max(left, right)), Interval(0, max(left, 1)), Interval(left)):
        assert parse_interval(str(interval)) == interval


INVALID_INTERVALS = [
    "5",
    "..",
    "",
    "4.5-5.5",
    "a..b",
    "-1..2",
    "1...2",
    "1..2..3",
    "nan..",
    "..inf",
    5,
    4.5,
    None,
    [1, 2],
    "1_0..",
    "٣..",
]


@pytest.mark.parametrize("text", INVALID_INTERVALS)
def test_an_invalid_interval_is_refused_with_the_form_to_write(text: object) -> None:
    with pytest.raises(ConstraintError) as caught:
        parse_constraints({"gmacs": text})
    assert caught.value.name == "gmacs"
    assert str(caught.value) == (
        f"gmacs: {text!r} is not a range of numbers from 0; write the lowest and the highest number, as in 4.5..5.5,"
        " or one of them, as in 4.5.. or ..5.5"
    )


def test_an_interval_that_counts_down_is_refused_with_the_one_that_counts_up() -> None:
    with pytest.raises(ConstraintError, match=r"^mparams: 5\.5\.\.4\.5 counts down; write 4\.5\.\.5\.5$"):
        parse_constraints({"mparams": "5.5..4.5"})


def test_an_unknown_metric_is_refused_with_the_list_of_metrics() -> None:
    with pytest.raises(
        ConstraintError, match=r"^gflops: .* write one or more of gmacs, mparams, ms_per_image$"
    ) as caught:
        parse_constraints({"gmacs": "..5", "gflops": "..5"})
    assert caught.value.name == "gflops"
    with pytest.raises(ConstraintError, match=r"write one or more of gmacs, mparams, ms_per_image$"):
        parse_constraints({})


def test_constraints_are_printed_as_they_are_written() -> None:
    constraints = parse_constraints({"ms_per_image": "..2", "gmacs": "4.5..5.5"})
    assert constraints == CostConstraints(gmacs=Interval(4.5, 5.5), ms_per_image=Interval(0, 2))
    assert str(constraints) == "gmacs 4.5..5.5, ms_per_image ..2"
    assert constraints.integer_bounds == {"gmacs": (4_500_000_000, 5_500_000_000)}


SATISFIED = [  # exact: in floats, 4.985712896 * 1e9 and the like are not always the integer meant
    ({"gmacs": "4.985712896..4.985712896"}, Cost(macs=4_985_712_896, params=1, core_macs=0), True),
    ({"gmacs": "4.985712896.."}, Cost(macs=4_985_712_895, params=1, core_macs=0), False),
    ({"gmacs": "..4.985712896"}, Cost(macs=4_985_712_897, params=1, core_macs=0), False),
    ({"gmacs": "..4.985712896"}, Cost(macs=0, params=1, core_macs=0), True),
    ({"mparams": "34.76164..34.76164"}, Cost(macs=1, params=34_761_640, core_macs=0), True),
    ({"mparams": "34.7616405.."}, Cost(macs=1, params=34_761_640, core_macs=0), False),
    ({"gmacs": "1..2", "mparams": "3..4"}, Cost(macs=10**9, params=4 * 10**6, core_macs=0), True),
    ({"gmacs": "1..2", "mparams": "3..4"}, Cost(macs=10**9, params=5 * 10**6, core_macs=0), False),
    ({"gmacs": "1..2", "mparams": "3..4"}, Cost(macs=3 * 10**9, params=4 * 10**6, core_macs=0), False),
    ({"ms_per_image": "1..2"}, Cost(macs=10**12, params=10**12, core_macs=0), True),
]


@pytest.mark.parametrize(("texts", "cost", "satisfied"), SATISFIED)
def test_costs_between_the_ends_satisfy_the_constraints(texts: dict[str, str], cost: Cost, satisfied: bool) -> None:
    assert parse_constraints(texts).satisfied_by(cost) is satisfied


def test_unlimited_ends_become_finite_integers() -> None:
    assert Interval(2).integer_bounds(10**9) == (2 * 10**9, UNBOUNDED)
    assert Interval(0, 1e300).integer_bounds(10**9) == (0, UNBOUNDED)
