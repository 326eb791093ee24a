"""What a budget says: ranges as text and as values, both ends inside."""

from __future__ import annotations

from dataclasses import dataclass
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


@dataclass(frozen=True)
class Counted:
    macs: int
    params: int


RANGES = [
    ("4.5..5.5", Interval(4.5, 5.5)),
    ("4.5..", Interval(4.5, inf)),
    ("..36", Interval(0, 36)),
    ("5..5", Interval(5, 5)),
    ("0..", Interval(0, inf)),
    (" 1e-3 .. 2 ", Interval(0.001, 2)),
]


@pytest.mark.parametrize(("text", "found"), RANGES)
def test_a_range_is_what_its_text_says(text: str, found: Interval) -> None:
    assert parse_interval(text) == found
    assert parse_interval(str(found)) == found


@given(st.floats(0, 1e9), st.floats(0, 1e9))
def test_every_range_is_read_again_from_its_text(one: float, other: float) -> None:
    for found in (Interval(min(one, other), max(one, other)), Interval(0, max(one, 1)), Interval(one)):
        assert parse_interval(str(found)) == found


NO_RANGES = [
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


@pytest.mark.parametrize("text", NO_RANGES)
def test_what_is_no_range_is_refused_with_what_to_write(text: object) -> None:
    with pytest.raises(ConstraintError) as caught:
        parse_constraints({"gmacs": text})
    assert caught.value.name == "gmacs"
    assert str(caught.value) == (
        f"gmacs: {text!r} is no range of numbers from 0; write the lowest and the highest number, as in 4.5..5.5,"
        " or one of them, as in 4.5.. or ..5.5"
    )


def test_a_range_that_counts_down_is_refused_with_the_one_that_counts_up() -> None:
    with pytest.raises(ConstraintError, match=r"^mparams: 5\.5\.\.4\.5 counts down; write 4\.5\.\.5\.5$"):
        parse_constraints({"mparams": "5.5..4.5"})


def test_other_metrics_are_refused_with_those_there_are() -> None:
    with pytest.raises(ConstraintError, match=r"^gflops: .* there is gmacs, mparams, ms_per_image$") as caught:
        parse_constraints({"gmacs": "..5", "gflops": "..5"})
    assert caught.value.name == "gflops"
    with pytest.raises(ConstraintError, match=r"there is gmacs, mparams, ms_per_image$"):
        parse_constraints({})


def test_a_band_is_written_as_it_is_read() -> None:
    band = parse_constraints({"ms_per_image": "..2", "gmacs": "4.5..5.5"})
    assert band == CostConstraints(gmacs=Interval(4.5, 5.5), ms_per_image=Interval(0, 2))
    assert str(band) == "gmacs 4.5..5.5, ms_per_image ..2"
    assert band.counted == {"gmacs": (4_500_000_000, 5_500_000_000)}


HELD = [  # to the unit, where 4.985712896 * 1e9 is not 4985712896 in floats for every such number
    ({"gmacs": "4.985712896..4.985712896"}, Counted(4_985_712_896, 1), True),
    ({"gmacs": "4.985712896.."}, Counted(4_985_712_895, 1), False),
    ({"gmacs": "..4.985712896"}, Counted(4_985_712_897, 1), False),
    ({"gmacs": "..4.985712896"}, Counted(0, 1), True),
    ({"mparams": "34.76164..34.76164"}, Counted(1, 34_761_640), True),
    ({"mparams": "34.7616405.."}, Counted(1, 34_761_640), False),
    ({"gmacs": "1..2", "mparams": "3..4"}, Counted(10**9, 4 * 10**6), True),
    ({"gmacs": "1..2", "mparams": "3..4"}, Counted(10**9, 5 * 10**6), False),
    ({"gmacs": "1..2", "mparams": "3..4"}, Counted(3 * 10**9, 4 * 10**6), False),
    ({"ms_per_image": "1..2"}, Counted(10**12, 10**12), True),
]


@pytest.mark.parametrize(("texts", "cost", "held"), HELD)
def test_a_band_holds_what_lies_between_its_ends(texts: dict[str, str], cost: Counted, held: bool) -> None:
    assert parse_constraints(texts).holds(cost) is held


def test_ends_without_bound_are_numbers_that_can_be_counted_with() -> None:
    assert Interval(2).whole(10**9) == (2 * 10**9, UNBOUNDED)
    assert Interval(0, 1e300).whole(10**9) == (0, UNBOUNDED)
