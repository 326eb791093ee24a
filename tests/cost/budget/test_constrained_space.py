"""A space restricted to a budget contains exactly the feasible networks, and samples them uniformly."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from math import comb
from pathlib import Path
from random import Random
from unittest.mock import patch
from zlib import crc32

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from hiri_search.cost import flops
from hiri_search.cost.budget import constrained_space, decision_diagram, feasible_counts
from hiri_search.cost.budget.constrained_space import BudgetError, ConstrainedSpace
from hiri_search.cost.budget.constraints import CostConstraints, Interval, parse_constraints
from hiri_search.cost.flops import Cost, count
from hiri_search.language import Chooser, Net, Space, SpecError, parse, uniform
from hiri_search.language.choosers import first
from hiri_search.language.space import Decisions
from hiri_search.nets.eval_mode import one_thread
from hiri_search.nets.pieces import Piece
from hiri_search.study.config.read import read_space

sys.path.insert(0, str(Path(__file__).parents[2] / "language"))
from tests.language.specs import WrittenSpec, small_spaces

ROOT = Path(__file__).parents[3]
EXACT_MODES = ["exact", "summed"]  # summed: with sums over paths to small tables
MODES = [*EXACT_MODES, "rejection"]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Small pieces are counted faster with one thread than with several that wait for each other."""
    with one_thread():
        yield


class forced_mode:
    """Context manager in which spaces of any size are counted as larger spaces are."""

    LIMITS = {  # noqa: RUF012
        "exact": {},
        "summed": {(feasible_counts, "MAX_ENTRIES"): 3},
        "many paths": {(feasible_counts, "MAX_ENTRIES"): 3, (feasible_counts, "MAX_PATHS"): 0},
        "rejection": {(decision_diagram, "MAX_NODES"): 0},
    }

    def __init__(self, mode: str) -> None:
        self.patches = [patch.object(module, name, value) for (module, name), value in self.LIMITS[mode].items()]

    def __enter__(self) -> None:
        for limit in self.patches:
            limit.start()

    def __exit__(self, *_: object) -> None:
        for limit in self.patches:
            limit.stop()


def constrained(mode: str, space: Space, constraints: CostConstraints, side: int) -> ConstrainedSpace:
    with forced_mode(mode):
        feasible = ConstrainedSpace(space, constraints, side)
    assert feasible.counting == ("exact" if mode in EXACT_MODES else "rejection")
    assert feasible.counting == "exact" or feasible.size == space.size
    return feasible


def list_costs(space: Space, side: int) -> dict[Net, Cost]:
    """The costs of all networks that fit the side."""
    by_net = {}
    for net in space:
        try:
            by_net[net] = count(net, side)
        except SpecError:
            continue
    return by_net


@cache
def costs(space: Space, side: int) -> dict[Net, Cost]:
    return list_costs(space, side)


def middle(values: list[int], unit: int, low: float = 0.35, high: float = 0.65) -> Interval:
    """An interval between two quantiles, both of them costs of networks."""
    ordered = sorted(values)
    return Interval(ordered[int(low * (len(values) - 1))] / unit, ordered[int(high * (len(values) - 1))] / unit)


def constraints_for(space: Space, side: int, metrics: str) -> CostConstraints:
    values = costs(space, side).values()
    gmacs = middle([cost.macs for cost in values], 10**9) if "gmacs" in metrics else None
    mparams = middle([cost.params for cost in values], 10**6, 0, 0.8) if "mparams" in metrics else None
    return CostConstraints(gmacs=gmacs, mparams=mparams)


SPACES = {
    "free": ("(hr | cffn)(32|48 e=2|4)*1..2 -> (hr | t(d=16|32))(64 e=2..4)*1..3", 64),
    "tied": (
        "(hr(32|48) -> (cffn | hr(r=1|2))(64))(e=2..5)*1..2 -> (t(64|128 d=32) -> t(128 d=16|32))(e=2|3)",
        64,
    ),
    "conditional": ("hr(32 e=4)*1|hr(32|64 e=6) -> (hr | cffn(norm=bn|ln) | t(d=16|32|64) -> t)(64 e=4|6)", 64),
    "stems": ("(hrstem(hs=16|32) | convstem(hs=8|16) | vitstem) -> (hr | cffn)(32|64 e=2|4) -> t(64 e=1..4)", 64),
    "lengths": (
        "hr(16 e=2) -> (hr(32) | hr(32) -> cffn(48|32) | (t(32) -> t(32) -> t(64))(d=16))(e=2..4)"
        " -> (hr(64 e=2) | cffn(48|64 e=2|3)*1..2 -> t(64 e=3 sr=1|2))",
        128,
    ),
    "downs": (
        "hr(16 e=2) -> (hr | cffn)(32 e=2|3 down=a|b|conv s=1|2) -> cffn(32 e=2 down=none) -> t(64 e=2|3 norm=mix|ln)",
        64,
    ),
    "six": (
        "hrstem(hs=16|32) -> hr(16 e=2|4) -> hr(16|32 e=2) -> (hr | cffn)(32 e=2|3)"
        " -> cffn(48 e=2) -> (cffn | t)(64 e=2|3)*1..2 -> t(64 e=2)*1..2",
        128,
    ),
}
METRICS = ["gmacs", "mparams", "gmacs mparams"]


@pytest.fixture(params=SPACES)
def case(request: pytest.FixtureRequest) -> tuple[Space, int]:
    text, side = SPACES[request.param]
    return parse(text), side


Call = tuple[str, tuple[object, ...], tuple[int, ...], int]  # name, options, sizes and chosen index


def recording(choose: Chooser, calls: list[Call]) -> Chooser:
    def choose_and_record(name: str, options: tuple[object, ...], sizes: tuple[int, ...]) -> int:
        index = choose(name, options, sizes)  # type: ignore[arg-type]
        calls.append((name, options, sizes, index))
        return index

    return choose_and_record


def all_walks(feasible: ConstrainedSpace) -> Iterator[tuple[Net, dict[str, int]]]:
    """Every walk over options of nonzero size, each once; the last decision changes fastest."""
    prefix: list[int] | None = []
    while prefix is not None:
        calls: list[Call] = []
        yield feasible.walk(recording(following(prefix, calls), calls))
        prefix = None
        while calls and prefix is None:
            *_, sizes, index = calls.pop()
            later = next((at for at in range(index + 1, len(sizes)) if sizes[at]), None)
            prefix = None if later is None else [*(call[-1] for call in calls), later]


def following(prefix: list[int], calls: list[Call]) -> Chooser:
    """Choose the options of `prefix`, then first options; `calls` are the decisions so far."""
    return lambda *decision: prefix[len(calls)] if len(calls) < len(prefix) else first(*decision)


@pytest.mark.parametrize("metrics", METRICS)
@pytest.mark.parametrize("mode", EXACT_MODES)
def test_walks_lead_to_exactly_the_networks_within_the_constraints(
    case: tuple[Space, int], mode: str, metrics: str
) -> None:
    space, side = case
    constraints = constraints_for(space, side, metrics)
    expected = [net for net, cost in costs(space, side).items() if constraints.satisfied_by(cost)]
    assert 0 < len(expected) < space.size
    feasible = constrained(mode, space, constraints, side)
    walks = list(all_walks(feasible))
    assert [net for net, _ in walks] == expected
    assert all(space.replay(decisions) == net for net, decisions in walks)
    assert feasible.size == len(expected)


@pytest.mark.parametrize("mode", EXACT_MODES)
def test_exact_sizes_are_the_numbers_of_feasible_networks_behind_each_option(
    case: tuple[Space, int], mode: str
) -> None:
    space, side = case
    feasible, rng = constrained(mode, space, constraints_for(space, side, "gmacs mparams"), side), Random(1)
    all_decisions = [decisions for _, decisions in all_walks(feasible)]
    for _ in range(10):
        calls: list[Call] = []
        feasible.walk(recording(uniform(rng), calls))
        path: dict[str, object] = {}
        for name, options, sizes, index in calls:
            matching = [decisions for decisions in all_decisions if path.items() <= decisions.items()]
            assert sizes == tuple(sum(d[name] == option for d in matching) for option in options)
            path[name] = options[index]


def unconstrained_calls(space: Space, decisions: Decisions) -> list[tuple[str, tuple[object, ...], int]]:
    """The decisions that the unconstrained space asks for on the same path: names, options and indices."""
    calls: list[Call] = []
    space.decide(recording(lambda name, options, sizes: options.index(decisions[name]), calls))
    return [(name, options, index) for name, options, _, index in calls]


def last(name: str, options: tuple[object, ...], sizes: tuple[int, ...]) -> int:
    return max(index for index, size in enumerate(sizes) if size)


def rarest(name: str, options: tuple[object, ...], sizes: tuple[int, ...]) -> int:
    return min((size, index) for index, size in enumerate(sizes) if size)[1]


def any_allowed(rng: Random) -> Chooser:
    """Choose uniformly among the allowed options: this does not sample the networks uniformly."""
    return lambda name, options, sizes: rng.choice([index for index, size in enumerate(sizes) if size])


@pytest.mark.parametrize("mode", MODES)
def test_a_walk_over_options_of_nonzero_size_ends_at_a_feasible_network(case: tuple[Space, int], mode: str) -> None:
    space, side = case
    constraints, rng = constraints_for(space, side, "gmacs mparams"), Random(2)
    feasible = constrained(mode, space, constraints, side)
    fixed = () if mode == "rejection" else (first, last, rarest)  # a rejected walk of these would be repeated
    for choose in (*fixed, *[any_allowed(rng)] * 30, *[uniform(rng)] * 30):
        calls: list[Call] = []
        net, decisions = feasible.walk(recording(choose, calls))
        assert constraints.satisfied_by(count(net, side))
        assert space.replay(decisions) == net
        last_walk = [(name, options, index) for name, options, _, index in calls[-len(decisions) :]]
        assert last_walk == unconstrained_calls(space, decisions)
        assert mode == "rejection" or len(calls) == len(decisions)


CHI_SQUARE = 182.0  # the 99.9th percentile at 127 degrees of freedom


@pytest.mark.parametrize("mode", MODES)
def test_samples_are_uniform_over_the_feasible_networks(mode: str) -> None:
    space, draws, rng = parse(SPACES["free"][0]), 5_000, Random(20240321)
    constraints = constraints_for(space, 64, "gmacs mparams")
    feasible = constrained(mode, space, constraints, 64)
    expected = {net for net, cost in costs(space, 64).items() if constraints.satisfied_by(cost)}
    frequencies = Counter(feasible.walk(uniform(rng))[0] for _ in range(draws))
    assert len(expected) == 128
    assert frequencies.keys() == expected
    mean = draws / len(expected)
    assert sum((number - mean) ** 2 / mean for number in frequencies.values()) < CHI_SQUARE


def fake_cost(piece: Piece, side: int) -> Cost:
    """Unordered costs, small enough to be equal often."""
    number = crc32(repr((piece, side)).encode())
    return Cost(params=number % 7, macs=number // 7 % 50, core_macs=0)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(small_spaces(), st.sampled_from([64, 128, 1024]), st.data())
def test_any_space_under_any_constraints_equals_its_filtered_listing(
    written: WrittenSpec, side: int, data: st.DataObject
) -> None:
    space = parse(written.text, let=written.let)
    assume(space.size < 300)
    with patch.object(flops, "piece_cost", fake_cost):
        nets = list_costs(space, side)
        assume(nets)
        left, right = (data.draw(st.sampled_from(list(nets.values()))) for _ in range(2))
        gmacs = Interval(min(left.macs, right.macs) / 1e9, max(left.macs, right.macs) / 1e9)
        constraints = CostConstraints(gmacs=gmacs, mparams=Interval(0, max(left.params, right.params) / 1e6))
        expected = [net for net, cost in nets.items() if constraints.satisfied_by(cost)]
        for mode in EXACT_MODES:
            feasible = constrained(mode, space, constraints, side)
            assert [net for net, _ in all_walks(feasible)] == expected
            assert feasible.size == len(expected)
            assert feasible.walk(uniform(Random(5)))[0] in expected


def test_a_real_space_is_sampled_within_its_budget() -> None:
    space, rng = read_space(ROOT / "spaces" / "five_stage.yaml"), Random(6)
    constraints = parse_constraints({"gmacs": "0.1..0.105", "mparams": "..30"})  # at 64: 1/49 of the macs at 448
    feasible = ConstrainedSpace(space, constraints, 64)
    assert feasible.counting == "exact"
    nets = [feasible.walk(uniform(rng))[0] for _ in range(300)]
    assert all(constraints.satisfied_by(count(net, 64)) for net in nets)
    drawn = [space.decide(uniform(rng)) for _ in range(3000)]
    share = sum(constraints.satisfied_by(count(net, 64)) for net in drawn) / len(drawn)
    expected = feasible.size / space.size
    assert abs(share - expected) < 4 * (expected / len(drawn)) ** 0.5


def test_rejection_reports_the_range_of_costs_where_the_space_has_a_decision_diagram() -> None:
    space = parse(SPACES["free"][0])
    macs = sorted({cost.macs for cost in costs(space, 64).values()})
    _, below, above = max((high - low, low, high) for low, high in pairwise(macs))
    gap = constrained("many paths", space, CostConstraints(gmacs=Interval((below + 1) / 1e9, (above - 1) / 1e9)), 64)
    with patch.object(constrained_space, "MAX_REJECTIONS", 5), pytest.raises(BudgetError) as rejected:
        gap.walk(uniform(Random(7)))
    ranges = f"gmacs ranges from {macs[0] / 1e9:.12g} to {macs[-1] / 1e9:.12g}"
    assert str(rejected.value) == (
        f"5 random networks in a row were not within {gap.constraints}; widen the constraints or narrow the space\n"
        + ranges
    )
    for outside in (Interval(0, (macs[0] - 1) / 1e9), Interval((macs[-1] + 1) / 1e9)):
        with pytest.raises(BudgetError) as infeasible:
            constrained("many paths", space, CostConstraints(gmacs=outside), 64)
        assert str(infeasible.value) == f"no network of the space is within gmacs {outside} at side 64\n{ranges}"


def test_the_summary_gives_the_number_of_feasible_networks_or_the_reason_why_it_is_not_known() -> None:
    space, constraints = parse("hr(32 e=2|4)*1..3"), parse_constraints({"gmacs": "0.."})
    assert (
        constrained("exact", space, constraints, 64).summary == "6 networks are within gmacs 0.., 100.000% of the space"
    )
    assert "too many networks to count" in constrained("rejection", space, constraints, 64).summary


def test_networks_are_counted_without_enumeration() -> None:
    """Each of 40 stages is one of two with the same costs at every grid: the sum tells how many are the second."""
    space = parse("cffn(8 e=1) -> " + " -> ".join(["cffn(8 e=1|2 s=1 down=a)"] * 40))
    ends = [count(space.replay({f"{at}.e": 1 + (at <= second) for at in range(2, 42)}), 32).macs for second in (1, 11)]
    feasible = ConstrainedSpace(space, CostConstraints(gmacs=Interval(ends[0] / 1e9, ends[1] / 1e9)), 32)
    assert feasible.counting == "exact"
    assert feasible.size == sum(comb(40, seconds) for seconds in range(11))


def test_sizes_are_integers_where_floats_would_round() -> None:
    space = parse("cffn(8 e=1) -> " + " -> ".join(["cffn(8 e=1|2|3 s=1 down=a)"] * 38))
    assert ConstrainedSpace(space, parse_constraints({"gmacs": "0.."}), 32).size == 3**38


def test_a_space_with_more_networks_than_an_int64_holds_uses_rejection() -> None:
    space = parse("cffn(8 e=1) -> " + " -> ".join(["cffn(8 e=1|2 s=1 down=a)"] * 70))
    feasible = ConstrainedSpace(space, parse_constraints({"gmacs": "0.."}), 32)
    assert feasible.counting == "rejection"
    assert feasible.size == space.size
    assert len(feasible.walk(uniform(Random(8)))[1]) == 70


@pytest.mark.parametrize("mode", EXACT_MODES)
def test_an_option_without_a_feasible_network_is_refused(mode: str) -> None:
    space = parse("hr(32 e=2|4)*1..3")
    cheapest = min(cost.macs for cost in costs(space, 64).values())
    feasible = constrained(mode, space, CostConstraints(gmacs=Interval(0, cheapest / 1e9)), 64)
    calls: list[Call] = []
    assert feasible.walk(recording(uniform(Random(9)), calls))[0] == parse("hr(32 e=2)").replay({})
    assert [sizes for _, _, sizes, _ in calls] == [(1, 0), (1, 0, 0)]
    with pytest.raises(BudgetError, match=r"^no network with 1\.e=4 is within gmacs \.\.0\.0"):
        feasible.walk(lambda name, options, sizes: 1)


@pytest.mark.parametrize("mode", EXACT_MODES)
def test_infeasible_constraints_are_refused_with_the_nearest_costs(mode: str) -> None:
    space = parse("hr(32 e=2|4)*1..3")
    macs = sorted(cost.macs for cost in costs(space, 64).values())
    low, below, above, high = (f"{macs[at] / 1e9:.12g}" for at in (0, 2, 3, -1))
    between = CostConstraints(gmacs=Interval((macs[2] + 1) / 1e9, (macs[3] - 1) / 1e9))
    with pytest.raises(BudgetError) as caught:
        constrained(mode, space, between, 64)
    assert str(caught.value) == (
        f"no network of the space is within {between} at side 64\n"
        f"gmacs ranges from {low} to {high}; the nearest: {below} below, {above} above"
    )


def test_the_nearest_cost_is_that_of_a_network_within_the_other_constraints() -> None:
    space = parse("hr(32 e=2|4)*1..3")
    all_costs = costs(space, 64).values()
    cheapest, dearest = min(all_costs, key=lambda c: c.macs), max(all_costs, key=lambda c: c.macs)
    gmacs, mparams = dearest.macs / 1e9, cheapest.params / 1e6
    with pytest.raises(BudgetError) as caught:
        ConstrainedSpace(space, CostConstraints(gmacs=Interval(gmacs), mparams=Interval(0, mparams)), 64)
    nearest = "the nearest that satisfies the other constraints"
    assert f"{nearest}: {cheapest.macs / 1e9:.12g} below, none above" in str(caught.value)
    assert f"{nearest}: none below, {dearest.params / 1e6:.12g} above" in str(caught.value)


def test_networks_that_do_not_fit_the_side_are_infeasible() -> None:
    space = parse("hr(16 e=2) -> (cffn(32 e=2) | cffn(32 e=3) -> cffn(32 e=2))")
    feasible = ConstrainedSpace(space, parse_constraints({"gmacs": "0.."}), 8)
    assert [str(net) for net, _ in all_walks(feasible)] == ["hr(16 e=2) -> cffn(32 e=2)"]
    with pytest.raises(SpecError, match=r"^side 12 does not fit"):
        ConstrainedSpace(space, parse_constraints({"gmacs": "0.."}), 12)


def milliseconds(net: Net) -> float:
    return float(net.stages[0].depth)


@pytest.mark.parametrize("mode", MODES)
def test_a_latency_limit_is_checked_by_measuring_networks_within_the_other_constraints(mode: str) -> None:
    space = parse(SPACES["free"][0])
    gmacs = constraints_for(space, 64, "gmacs").gmacs
    measured: list[Net] = []
    with forced_mode(mode):
        feasible = ConstrainedSpace(
            space,
            CostConstraints(gmacs=gmacs, ms_per_image=Interval(0, 1)),
            64,
            measure=lambda net: measured.append(net) or milliseconds(net),  # type: ignore[func-returns-value]
        )
    rng = Random(10)
    nets = [feasible.walk(choose)[0] for choose in (*[uniform(rng)] * 20, *[any_allowed(rng)] * 20)]
    assert all(milliseconds(net) == 1 for net in nets)
    assert all(CostConstraints(gmacs=gmacs).satisfied_by(count(net, 64)) for net in measured)
    assert any(milliseconds(net) > 1 for net in measured)


def test_a_latency_limit_needs_a_measure_and_networks_that_are_fast_enough() -> None:
    space, constraints = parse("hr(32 e=2|4)"), parse_constraints({"ms_per_image": "..1"})
    with pytest.raises(BudgetError, match="needs measured latencies"):
        ConstrainedSpace(space, constraints, 64)
    feasible = ConstrainedSpace(space, constraints, 64, measure=lambda net: 2.0)
    assert feasible.size == 2
    with (
        patch.object(constrained_space, "MAX_REJECTIONS", 5),
        pytest.raises(BudgetError, match=r"^5 random networks .* ms_per_image \.\.1"),
    ):
        feasible.walk(uniform(Random(11)))
